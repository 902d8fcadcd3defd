/**
 * The program's version, as `deno.json` has it.
 */
import config from "../deno.json" with { type: "json" };

/** The program's version, after https://semver.org/. */
export const VERSION: string = config.version;
