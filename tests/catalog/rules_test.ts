import { deepEqual } from "node:assert/strict";
import { checkChannels } from "../../catalog/rules.ts";
import { row } from "../harness/fakes.ts";

Deno.test("checkChannels() names each channel that there is not, and those there are", () => {
  const faults = (channels: string[], notify?: string[]) =>
    checkChannels(channels, row(notify ? { notify } : {})).map(({ severity, column, value, message }) => {
      deepEqual([severity, column], ["error", "notify"]);
      return `${value}: ${message}`;
    });
  deepEqual(faults(["imaging"], ["imaging"]), []);
  deepEqual(faults([], undefined), []);
  deepEqual(faults([], ["imaging"]), ['imaging: there is no channel "imaging"; NOTIFY_CHANNELS names none']);
  deepEqual(faults(["gpu", "imaging"], ["imagin", "gpu", "x-y-z"]), [
    'imagin: there is no channel "imagin"; there are gpu, imaging; do you mean "imaging"?',
    'x-y-z: there is no channel "x-y-z"; there are gpu, imaging',
  ]);
});
