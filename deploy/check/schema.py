"""Each document against the schemas of Kubernetes, unknown fields refused."""

import functools

import kubernetes_validate
from kubernetes_validate import utils

# The oldest release that knows all we use (a pause before the end, `preStop.sleep`), and the newest.
VERSIONS = ("1.30", "1.37")

# The package reads the same megabytes for each document; once is enough.
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)


def findings(documents):
    for document in documents:
        name = f"{document['kind']} {document['metadata']['name']}"
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                path = ".".join(str(step) for step in error.path)
                yield f"{name}: {path}: {error.message} (Kubernetes {version})"
            except kubernetes_validate.SchemaNotFoundError as error:
                yield f"{name}: {error.message}"
