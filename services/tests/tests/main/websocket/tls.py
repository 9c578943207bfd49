"""The HTTPS port of an installation: TLS ends here, what is inside goes on as it is. Its certificate is made by an
authority of its own, which lies in the folder as authority.pem. Prints its port; ends when its input does.

    python3 tls.py FOLDER HOST PORT
"""

import asyncio
import pathlib
import ssl
import subprocess
import sys

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, stderr=subprocess.DEVNULL)


def certificates(folder):
    openssl(folder, "req", "-x509", *CURVE, "-days", "2", "-subj", "/CN=authority",
            "-keyout", "authority.key", "-out", "authority.pem")
    openssl(folder, "req", *CURVE, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
            "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


async def pump(reader, writer):
    try:
        while taken := await reader.read(65536):
            writer.write(taken)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main(folder, host, port):
    async def serve(reader, writer):
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificates(folder))
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
