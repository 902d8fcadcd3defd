/**
 * MQTT topic names and filters: validation, matching, an index of filters, and the names of the service's own topics.
 * Owns the rules of MQTT 5.0 section 4.7: pure, no broker, no table.
 */
import { cut } from "./util/text.ts";

/** MQTT strings carry their length in two bytes [MQTT-1.5.4]. */
const MAX_TOPIC_BYTES = 65_535;
/** mosquitto refuses more than 200 levels; a bound also keeps walks of the index shallow. */
const MAX_LEVELS = 200;

/** What is wrong with `filter` as a topic filter of a row, as a clause to follow a colon; undefined: it is valid. */
export function filterFault(filter: string): string | undefined {
  const fault = stringFault(filter);
  if (fault !== undefined) return fault;
  const levels = filter.split("/");
  if (levels[0] === "$share" || levels[0] === "$queue") {
    return `shared subscriptions (${levels[0]}/…) are not supported: give the topic alone`;
  }
  for (const [at, level] of levels.entries()) {
    if (level.includes("#") && level !== "#") return `"#" must stand alone in its level, not in "${cut(level, 100)}"`; // [MQTT-4.7.1-1]
    if (level === "#" && at !== levels.length - 1) return `"#" must be the last level`;
    if (level.includes("+") && level !== "+") return `"+" must stand alone in its level, not in "${cut(level, 100)}"`; // [MQTT-4.7.1-2]
  }
  return undefined;
}

/** What is wrong with `topic` as the topic of a message, as a clause to follow a colon; undefined: it is valid. */
export function topicFault(topic: string): string | undefined {
  const fault = stringFault(topic);
  if (fault !== undefined) return fault;
  const wildcard = /[+#]/.exec(topic);
  return wildcard ? `a message's topic cannot hold "${wildcard[0]}"` : undefined; // [MQTT-3.3.2-2]
}

const encoder = new TextEncoder();

function stringFault(text: string): string | undefined {
  if (text === "") return "it is empty"; // [MQTT-4.7.3-1]
  if (text.includes("\0")) return "it holds a NUL character"; // [MQTT-4.7.3-2]
  if (!text.isWellFormed()) return "it holds half of a surrogate pair, which UTF-8 cannot carry"; // [MQTT-1.5.4-1]
  // A UTF-16 unit is at most three bytes of UTF-8, so that short texts need no encoding.
  if (text.length * 3 > MAX_TOPIC_BYTES) {
    const bytes = encoder.encode(text).length;
    if (bytes > MAX_TOPIC_BYTES) return `it has ${bytes} bytes, MQTT allows ${MAX_TOPIC_BYTES}`;
  }
  let levels = 1;
  for (let at = text.indexOf("/"); at !== -1; at = text.indexOf("/", at + 1)) levels++;
  return levels > MAX_LEVELS ? `it has ${levels} levels, brokers allow ${MAX_LEVELS}` : undefined;
}

/** Whether the filter holds a wildcard. */
function isWildcard(filter: string): boolean {
  return filter.includes("+") || filter.includes("#");
}

/** A first level that begins with `$` is not matched by a wildcard [MQTT-4.7.2-1]. */
function isHidden(level: string | undefined): boolean {
  return level !== undefined && level.startsWith("$");
}

/** Whether a message on `topic` is for `filter`. Both must be valid. */
export function matches(filter: string, topic: string): boolean {
  return covers(filter, topic);
}

/** Whether every topic that `b` matches is matched by `a` too. Both must be valid filters. */
export function covers(a: string, b: string): boolean {
  // "+/#" and "#" match the same topics: there is no topic without a first level.
  if (a === "+/#") a = "#";
  const wide = a.split("/");
  const narrow = b.split("/");
  for (const [at, level] of wide.entries()) {
    if (level === "#") return at > 0 || !isHidden(narrow[0]);
    const other = narrow[at];
    if (other === undefined || other === "#") return false;
    if (level === "+") {
      if (at === 0 && isHidden(other)) return false;
    } else if (level !== other) return false;
  }
  return wide.length === narrow.length;
}

/** Whether some topic is matched by both filters. The one without a character counts, though no message can have it. */
export function overlap(a: string, b: string): boolean {
  const one = a.split("/");
  const two = b.split("/");
  for (let at = 0;; at++) {
    const left = one[at];
    const right = two[at];
    if (left === undefined && right === undefined) return true;
    if (left === "#" || right === "#") {
      return at > 0 || !isHidden(left === "#" ? right : left);
    }
    if (left === undefined || right === undefined) return false;
    const wild = left === "+" || right === "+";
    if (!wild && left !== right) return false;
    if (wild && at === 0 && isHidden(left === "+" ? right : left)) return false;
  }
}

/**
 * One level of the index. Plain topics are kept apart in a map, so that the tree holds wildcard filters only.
 * Most nodes have one child; a map for each of them would cost more than all the rest.
 */
class Node<T> {
  #level: string | undefined = undefined;
  #only: Node<T> | undefined = undefined;
  #many: Map<string, Node<T>> | undefined = undefined;
  /** Values of the filter that ends here. */
  values: T[] | undefined = undefined;

  child(level: string): Node<T> | undefined {
    if (this.#many) return this.#many.get(level);
    return this.#level === level ? this.#only : undefined;
  }

  /** The child at `level`, made if need be. */
  grow(level: string): Node<T> {
    const known = this.child(level);
    if (known) return known;
    const node = new Node<T>();
    if (this.#only && this.#level !== undefined) {
      this.#many = new Map([[this.#level, this.#only]]);
      this.#level = this.#only = undefined;
    }
    if (this.#many) this.#many.set(level, node);
    else {
      this.#level = level;
      this.#only = node;
    }
    return node;
  }

  get isLeaf(): boolean {
    return !this.#only && !this.#many;
  }
}

/**
 * Values by topic filter. Matching walks at most the levels of the topic, not the filters.
 * Filters must be valid; a value may be added under several filters, and is then found once for each.
 */
export class TopicIndex<T> {
  readonly #plain = new Map<string, T[]>();
  readonly #root = new Node<T>();
  readonly #wild = new Map<string, T[]>();

  /** Adds `value` under `filter`. */
  add(filter: string, value: T): void {
    if (!isWildcard(filter)) {
      const values = this.#plain.get(filter);
      if (values) values.push(value);
      else this.#plain.set(filter, [value]);
      return;
    }
    const known = this.#wild.get(filter);
    if (known) {
      known.push(value);
      return;
    }
    this.#wild.set(filter, reach(this.#root, filter).values = [value]);
  }

  /** Values of all filters that match `topic`, in no particular order. */
  match(topic: string): T[] {
    const found: T[] = [];
    const plain = this.#plain.get(topic);
    if (plain) append(found, plain);
    if (this.#wild.size > 0) walk(this.#root, topic.split("/"), 0, found);
    return found;
  }

  /** The distinct filters, in the order of their first addition: those without wildcards first. */
  filters(): string[] {
    return [...this.#plain.keys(), ...this.#wild.keys()];
  }

  /** Number of distinct filters. */
  get size(): number {
    return this.#plain.size + this.#wild.size;
  }
}

/** The node at which `filter` ends, made if need be. */
function reach<T>(root: Node<T>, filter: string): Node<T> {
  let node = root;
  for (const level of filter.split("/")) node = node.grow(level);
  return node;
}

/** `push(...values)` overflows the stack for very long lists. */
function append<T>(to: T[], values: readonly T[]): void {
  for (const value of values) to.push(value);
}

function walk<T>(node: Node<T>, levels: readonly string[], at: number, found: T[]): void {
  const level = levels[at];
  if (level === undefined && node.values) append(found, node.values);
  if (node.isLeaf) return;
  const mayBeWild = at > 0 || !isHidden(level);
  if (mayBeWild) {
    // "a/#" matches "a" as well, so this comes at the end of the topic too.
    const rest = node.child("#")?.values;
    if (rest) append(found, rest);
  }
  if (level === undefined) return;
  const any = mayBeWild ? node.child("+") : undefined;
  if (any) walk(any, levels, at + 1, found);
  // A topic has no wildcards, but a caller may hand over an invalid one.
  const same = level === "+" || level === "#" ? undefined : node.child(level);
  if (same) walk(same, levels, at + 1, found);
}

/**
 * The filters that no other one of them covers, without repeats, in the given order: subscribing to these
 * brings every message that all of them would. Takes about as long as building an index of them.
 */
export function uncovered(filters: Iterable<string>): string[] {
  const distinct = [...new Set(filters)];
  const index = new TopicIndex<string>();
  const wild = distinct.filter(isWildcard);
  if (wild.length === 0) return distinct;
  const root = new Node<string>();
  for (const filter of wild) {
    reach(root, filter).values = [filter];
    index.add(filter, filter);
  }
  const hasAll = distinct.includes("#");
  return distinct.filter((filter) => {
    if (filter === "#") return true;
    // The only two spellings of one set of topics; keep the shorter.
    if (filter === "+/#") return !hasAll;
    if (!isWildcard(filter)) return index.match(filter).length === 0;
    return !isCovered(root, filter.split("/"), 0, filter);
  });
}

function isCovered(node: Node<string>, levels: readonly string[], at: number, self: string): boolean {
  const level = levels[at];
  const mayBeWild = at > 0 || !isHidden(level);
  if (level === undefined && node.values && node.values[0] !== self) return true;
  if (mayBeWild) {
    const rest = node.child("#")?.values?.[0];
    if (rest !== undefined && rest !== self) return true;
    // "+/#" is "#".
    if (at === 0 && node.child("+")?.child("#")?.values) return true;
  }
  if (level === undefined || level === "#") return false;
  const any = mayBeWild ? node.child("+") : undefined;
  if (any && isCovered(any, levels, at + 1, self)) return true;
  const same = level === "+" ? undefined : node.child(level);
  return same !== undefined && isCovered(same, levels, at + 1, self);
}

// ---------------------------------------------------------------- the service's own topics

/** Topic on which the success of a row is announced. */
export function completeTopic(topicPrefix: string, jobName: string): string {
  return `${topicPrefix}/job_complete/${jobName}`;
}

/** Topic on which the failure of a row is announced. */
export function failedTopic(topicPrefix: string, jobName: string): string {
  return `${topicPrefix}/job_failed/${jobName}`;
}

/** Topic of the message that a due time stands for; nobody publishes it, and what comes on it starts nothing. */
export function scheduleTopic(topicPrefix: string, jobName: string): string {
  return `${topicPrefix}/schedule/${jobName}`;
}

/**
 * Topic of the message that a row with `needs` is started by. Nobody publishes it, and what is published on it starts
 * nothing: the service itself makes the message when all rows are through.
 */
export function joinTopic(topicPrefix: string, jobName: string): string {
  return `${topicPrefix}/join/${jobName}`;
}

/** Whether `joinTopic` made it. */
export function isJoinTopic(topicPrefix: string, topic: string): boolean {
  return topic.startsWith(`${topicPrefix}/join/`);
}

/** Whether `topic` (or a filter's literal beginning) lies under the service's own prefix. */
export function isUnderPrefix(topicPrefix: string, topic: string): boolean {
  return topic === topicPrefix || topic.startsWith(`${topicPrefix}/`);
}

/** Topic on which is announced that all items of a group of the row have succeeded. */
export function groupCompleteTopic(topicPrefix: string, jobName: string): string {
  return `${topicPrefix}/group_complete/${jobName}`;
}

/** Topic on which is announced that a group of the row has ended and an item of it has not succeeded. */
export function groupFailedTopic(topicPrefix: string, jobName: string): string {
  return `${topicPrefix}/group_failed/${jobName}`;
}

/** Levels below the prefix that announce ends, and what has ended. */
const ENDS = { job_complete: "run", job_failed: "run", group_complete: "group", group_failed: "group" } as const;
export const END_KINDS = Object.keys(ENDS) as (keyof typeof ENDS)[];

/** Topics on which the ends of a row's runs are announced, and those of its groups where it makes such. */
export function endTopics(topicPrefix: string, jobName: string, { hasGroups }: { hasGroups: boolean }): string[] {
  return END_KINDS.filter((kind) => hasGroups || ENDS[kind] === "run").map((kind) =>
    `${topicPrefix}/${kind}/${jobName}`
  );
}

/** What a topic announces the end of: a run or a group of that row; undefined: it announces none. */
export function endOf(topicPrefix: string, topic: string): { jobName: string; of: "run" | "group" } | undefined {
  for (const kind of END_KINDS) {
    const start = `${topicPrefix}/${kind}/`;
    if (!topic.startsWith(start)) continue;
    const jobName = topic.slice(start.length);
    return jobName === "" || jobName.includes("/") ? undefined : { jobName, of: ENDS[kind] };
  }
  return undefined;
}

/** Whether a message on `topic` under the prefix may start rows at all: only the ends of runs and groups may. */
export function isEndTopic(topicPrefix: string, topic: string): boolean {
  return endOf(topicPrefix, topic) !== undefined;
}

/** Job name of a topic that announces an end; undefined: it does not. */
export function endName(topicPrefix: string, topic: string): string | undefined {
  return endOf(topicPrefix, topic)?.jobName;
}
