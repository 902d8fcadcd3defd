/** Flags of the tests' own programs, `--name=value`. */

/** Text of a flag; undefined: it is not given. */
export function flag(name: string): string | undefined {
  return Deno.args.find((arg) => arg.startsWith(`--${name}=`))?.slice(name.length + 3);
}

/** A number above 0. Throws a TypeError that names the flag. */
export function numberFlag(name: string, preset: number): number {
  const value = Number(flag(name) ?? preset);
  if (!(value > 0)) throw new TypeError(`Cannot read --${name}=${flag(name)}: write a number above 0`);
  return value;
}
