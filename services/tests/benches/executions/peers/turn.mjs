// One measurement of a queue, in step with the bench: it says by a line of JSON on its standard output what it has
// done, waits for a line on its standard input before each of the next steps, and for that input's end before it ends.

import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

function say(what) {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}

/** From the moment at which workers may take them to the last one's end, in milliseconds. */
async function released(system, count) {
  const all = system.completed(count);
  const began = performance.now();
  await system.release();
  await all;
  return performance.now() - began;
}

/** A warm-up with everything that comes after it, then the jobs. */
export async function turn(system, warmUp, jobs) {
  await system.enqueue(warmUp);
  say({ warm: warmUp, ms: await released(system, warmUp) });
  await lines.next();
  const began = performance.now();
  await system.enqueue(jobs);
  say({ enqueued: jobs, ms: performance.now() - began });
  await lines.next();
  say({ completed: jobs, ms: await released(system, jobs) });
  while (!(await lines.next()).done);
}

/** Counts what is completed. */
export class Count {
  #done = 0;
  #wanted = Infinity;
  #reached = () => {};

  one() {
    this.#done += 1;
    if (this.#done >= this.#wanted) this.#reached();
  }

  /** So many more. */
  more(count) {
    this.#wanted = this.#done + count;
    return new Promise((reached) => {
      this.#reached = reached;
    });
  }
}
