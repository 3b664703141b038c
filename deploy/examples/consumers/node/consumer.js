// Follow the orders: a consumer to start from, with kafkajs.
//
//     npm install && node consumer.js --brokers host:9092 --group fulfilment --folder orders
//
// An event may come twice, and after a crash an older one may come again. So the store decides:
//
//     dedupe by ce_id       account:order:version, so one file per order and version; a file that is there stays
//     order by version      the order's state is its file with the highest version
//     ship once             a file of which there can be one for each order
//
// kafkajs commits an offset after its event was applied: a crash between the two brings the event again, and it changes
// nothing. So the process may end at any moment, and after SIGTERM it does so within seconds. The first start reads the
// newest state of every order from the compacted topic, because the topic of events is shorter. The compacted topic may
// have older states too, so orders are shipped when all are read. The folder stands for your database, which any number
// of these processes may share.
const { createHash, randomUUID } = require("node:crypto");
const { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, unlinkSync, writeFileSync } = require("node:fs");
const { join } = require("node:path");
const { parseArgs } = require("node:util");
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require("kafkajs");

CompressionCodecs[CompressionTypes.Snappy] = require("kafkajs-snappy"); // the events are compressed so

const { values: options } = parseArgs({
  options: {
    brokers: { type: "string" },
    group: { type: "string" },
    folder: { type: "string" },
    prefix: { type: "string", default: "payments" },
    "session-ms": { type: "string", default: "30000" },
  },
});
if (!options.brokers || !options.group || !options.folder) {
  console.error("usage: node consumer.js --brokers host:9092,… --group NAME --folder PATH [--prefix payments]");
  process.exit(2);
}
const PAID = new Set(["PAID", "FINISHED"]);
const COMPLETE = join(options.folder, "complete");
const LEAVE_WITHIN_MS = 5000;
let exitCode = 1; // after an error; after a signal it is 0

// Create a file with this content. Return false if it is there already; a crash leaves either all of it or nothing.
function insert(path, content) {
  const part = join(options.folder, `part-${randomUUID()}`);
  writeFileSync(part, content);
  try {
    linkSync(part, path);
    return true;
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  } finally {
    unlinkSync(part);
  }
}

function newestVersion(folder) {
  return Math.max(0, ...readdirSync(folder).map((name) => Number.parseInt(name, 10)).filter(Number.isInteger));
}

function folderOf(key) {
  return join(options.folder, "orders", createHash("sha256").update(key).digest("hex"));
}

// Keep the order's version. Return its folder if it is the newest, also if it was kept before: a crash may have come
// between that and the shipment.
function apply({ key, headers, value }) {
  if (headers.ce_specversion?.toString() !== "1.0") throw new Error("the record is no CloudEvent");
  if (!/\.order\.[^.]+\.v1$/.test(headers.ce_type)) return undefined; // of a later release: another schema
  const order = JSON.parse(value);
  const folder = folderOf(key);
  mkdirSync(folder, { recursive: true });
  const kept = JSON.stringify({ ...order, key: key.toString() });
  insert(join(folder, `${order.version}.json`), kept);
  return order.version === newestVersion(folder) ? folder : undefined;
}

// Ship the order if its newest version is paid and nothing contradicts that. A folder without a version is one that
// another process has just made.
function ship(folder) {
  const version = newestVersion(folder);
  if (version === 0) return;
  const order = JSON.parse(readFileSync(join(folder, `${version}.json`)));
  if (PAID.has(order.status) && order.flags.length === 0) insert(join(folder, "shipped.json"), order.id);
}

// Read the newest state of every order, from the beginning of the compacted topic to its present end.
async function readStates(kafka, topic) {
  const admin = kafka.admin();
  const reader = kafka.consumer({ groupId: `${options.group}-states-${randomUUID()}` });
  await admin.connect();
  const left = new Map();
  for (const { partition, low, high } of await admin.fetchTopicOffsets(topic)) {
    if (BigInt(low) < BigInt(high)) left.set(partition, BigInt(high) - 1n);
  }
  if (left.size > 0) {
    await reader.connect();
    await reader.subscribe({ topic, fromBeginning: true });
    await new Promise((resolve, reject) => {
      reader.on(reader.events.CRASH, ({ payload }) => payload.restart || reject(payload.error));
      reader.run({
        eachMessage: async ({ partition, message }) => {
          apply(message);
          if (left.has(partition) && BigInt(message.offset) >= left.get(partition)) left.delete(partition);
          if (left.size === 0) resolve();
        },
      }).catch(reject);
    });
    await reader.disconnect();
  }
  await admin.disconnect();
  for (const name of readdirSync(join(options.folder, "orders"))) ship(join(options.folder, "orders", name));
  insert(COMPLETE, "");
}

// Leave the group, so that other members get the partitions at once, and end. While kafkajs joins its group, it does
// not leave it, and may join again afterwards: so the process ends here, whether it has left or not.
function stop(follower) {
  exitCode = 0;
  setTimeout(() => process.exit(exitCode), LEAVE_WITHIN_MS);
  follower.disconnect().finally(() => process.exit(exitCode));
}

async function main() {
  mkdirSync(join(options.folder, "orders"), { recursive: true });
  const kafka = new Kafka({ clientId: "consumer", brokers: options.brokers.split(","), logLevel: logLevel.WARN });
  const sessionTimeout = Number(options["session-ms"]);
  const follower = kafka.consumer({ groupId: options.group, sessionTimeout, heartbeatInterval: sessionTimeout / 6 });
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => stop(follower));
  if (!existsSync(COMPLETE)) {
    await readStates(kafka, `${options.prefix}.order.state.v1`);
    console.error("consumer all states are read");
  }
  // kafkajs starts again after errors that may pass. After another one, end: a service manager starts a fresh process.
  follower.on(follower.events.CRASH, ({ payload }) => payload.restart || process.exit(exitCode));
  follower.on(follower.events.GROUP_JOIN, () => console.error("consumer following"));
  await follower.connect();
  await follower.subscribe({ topic: `${options.prefix}.order.event.v1`, fromBeginning: true });
  console.error("consumer joining the group");
  await follower.run({
    autoCommitThreshold: 100,
    eachMessage: async ({ message }) => {
      const folder = apply(message);
      if (folder) ship(folder);
    },
  });
}

main().catch((error) => {
  console.error(error);
  process.exit(exitCode);
});
