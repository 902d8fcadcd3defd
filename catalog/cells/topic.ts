/**
 * What a topic filter hardly means, though MQTT allows it: other systems' wildcards, URLs, lists, blanks. Pure.
 */
import { cut } from "../problem.ts";

/** Each with what to write, as a clause to follow column and value; the first that fits is said. */
const DOUBTS: readonly (readonly [pattern: RegExp, say: (found: string, topic: string) => string])[] = [
  [/^[a-z][a-z0-9+.-]{0,20}:\/\//i, (found, topic) => {
    const rest = topic.slice(found.length);
    const path = /^[^/]{0,255}\/(.+)$/.exec(rest)?.[1];
    return `a topic has no address of a broker before it; write "${cut(path ?? rest)}"`;
  }],
  [
    /^["'\u2018\u2019\u201c\u201d\u00ab`]|["'\u2018\u2019\u201c\u201d\u00bb`]$/,
    (found) => `the quote ${found} is part of the topic; take the quotes away if they are not meant`,
  ],
  [/[;|]|,/, (found) => `a row has one topic, and "${found}" is part of it; for several topics write several rows`],
  [/\\/, () => 'levels are parted by "/", not by a backslash'],
  [
    /\*{1,2}/,
    (found) => `"${found}" is no wildcard in MQTT; write "+" for one level or "#" at the end for all that follow`,
  ],
  [/[{}]|<[^/<>]{0,100}>|\$\{/, () => 'nothing is filled in here; write "+" for a level that differs'],
  [/[^^]\$\w/, (found) => `"${found.slice(1)}…" is not filled in; write "+" for a level that differs`],
  [/(^|\/):\w/, () => 'nothing is filled in here; write "+" for a level that differs'],
  [
    /[?&=]/,
    (found) =>
      `"${found}" has no meaning in a topic and is part of it; write levels with "/" alone if that is not meant`,
  ],
  [/ \/|\/ /, () => "a blank beside the slash is part of the level; take it out"],
  [/\S {1,9}\S{1,100}\//, () => "a blank is part of the topic; for several topics write several rows"],
  [
    /^\//,
    (_, topic) =>
      `it begins with an empty level; "${cut(topic)}" and "${
        cut(topic.slice(1))
      }" are two topics, write the one that is published`,
  ],
  [/\/\//, () => "it has an empty level between two slashes; take one away if that is not meant"],
  [
    /[^/]\/$/,
    (_, topic) =>
      `it ends in an empty level; "${cut(topic)}" and "${
        cut(topic.slice(0, -1))
      }" are two topics, write the one that is published`,
  ],
  [/^[^/.]{1,200}\.[^/.]{1,200}\.[^/]{0,200}$/, () => 'levels are parted by "/", not by "."'],
];

/** Most topics, of which no rule has anything to say. */
const PLAIN = /^[\w+#-]+(\/[\w+#-]+)*$/;

/** What the topic hardly means, and what to write; undefined: nothing is odd about it. */
export function topicDoubt(topic: string): string | undefined {
  if (PLAIN.test(topic)) return undefined;
  for (const [pattern, say] of DOUBTS) {
    const found = pattern.exec(topic);
    if (found) return say(found[0], topic);
  }
  return undefined;
}
