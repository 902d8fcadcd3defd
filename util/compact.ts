/**
 * Objects without the fields that are undefined, as `exactOptionalPropertyTypes` wants them. Pure.
 */

/** `T` where each field that may be undefined may be absent instead. */
export type Compact<T> =
  & { [K in keyof T as undefined extends T[K] ? never : K]: T[K] }
  & { [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined> };

/** A copy without the fields that are undefined: `{ ...compact({ signal }) }`. */
export function compact<T extends object>(fields: T): Compact<T> {
  const copy: Partial<T> = {};
  // Many times a message: with Object.entries it takes three times as long.
  for (const key in fields) if (fields[key] !== undefined) copy[key] = fields[key];
  return copy as unknown as Compact<T>;
}
