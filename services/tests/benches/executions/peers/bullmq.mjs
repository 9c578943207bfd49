// BullMQ: no-op jobs, added while the queue is paused; what is timed begins when it is resumed. A job counts as
// completed when Redis has answered that it is. Completed jobs are kept, as they are by default.
//
// node bullmq.mjs <port of Redis> <jobs> <concurrency> <jobs of the warm-up> <jobs of one call>

import { Queue, Worker } from "bullmq";

import { Count, turn } from "./turn.mjs";

const [port, jobs, concurrency, warmUp, call] = process.argv.slice(2).map(Number);
const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null };
const queue = new Queue("bench", { connection });
const worker = new Worker("bench", async () => {}, { connection, concurrency });
const count = new Count();
worker.on("completed", () => count.one());
worker.on("error", (error) => console.error(error));

async function enqueue(all) {
  await queue.pause();
  for (let done = 0; done < all; done += call) {
    const length = Math.min(call, all - done);
    await queue.addBulk(Array.from({ length }, () => ({ name: "noop", data: {} })));
  }
}

await worker.waitUntilReady();
await turn({ enqueue, release: () => queue.resume(), completed: (all) => count.more(all) }, warmUp, jobs);
await worker.close();
await queue.close();
