// graphile-worker: no-op jobs, added in one transaction; what is timed begins with its commit, from which on workers
// see them. A job counts as completed when its row is gone, and that is committed.
//
// 0.16 takes jobs one by one, and ends them one by one: a local queue and ends in batches came with 0.17, which needs a
// newer Node.
//
// node graphile.mjs <URL of the database> <jobs> <concurrency> <jobs of the warm-up> <jobs of one call>

import { Logger, makeWorkerUtils, run } from "graphile-worker";

import { Count, turn } from "./turn.mjs";

// 0.16 has `add_jobs` in SQL only.
const ADD = `
  SELECT count(*) FROM graphile_worker.add_jobs((
    SELECT array_agg(('noop', '{}', null, null, null, null, null, null)::graphile_worker.job_spec)
    FROM generate_series(1, $1::int)))`;

const [connectionString, ...numbers] = process.argv.slice(2);
const [jobs, concurrency, warmUp, call] = numbers.map(Number);
// A line for each job would be the most of its work.
process.env.NO_LOG_SUCCESS = "1";
const logger = new Logger(() => (level, message) => level === "error" && console.error(message));
const utils = await makeWorkerUtils({ connectionString, logger });
await utils.migrate();
const runner = await run({
  connectionString,
  concurrency,
  logger,
  // By default ten, and most of fifty would wait for a connection.
  maxPoolSize: concurrency + 2,
  noHandleSignals: true,
  taskList: { noop: async () => {} },
});
const count = new Count();
runner.events.on("job:complete", () => count.one());

let commit = () => {};
let committed = Promise.resolve();

/** Adds them in a transaction that stays open. */
function enqueue(all) {
  const wait = new Promise((released) => {
    commit = released;
  });
  return new Promise((enqueued, failed) => {
    committed = utils.withPgClient(async (client) => {
      // Rows of jobs that are gone would make it much slower, and autovacuum comes when it likes.
      await client.query("VACUUM (ANALYZE) graphile_worker._private_jobs");
      await client.query("BEGIN");
      for (let done = 0; done < all; done += call) {
        await client.query(ADD, [Math.min(call, all - done)]);
      }
      enqueued();
      await wait;
      await client.query("COMMIT");
    });
    committed.catch(failed);
  });
}

async function release() {
  commit();
  await committed;
}

await turn({ enqueue, release, completed: (all) => count.more(all) }, warmUp, jobs);
await runner.stop();
await utils.release();
