/**
 * One page in Lighthouse, on a browser that listens for its debugger; prints scores and findings as JSON. A process of its
 * own, with packages of its own (tests/install.sh), since nothing else needs the 170 MB that they take.
 * usage: audit.ts URL PORT phone|desktop
 */
// deno-lint-ignore-file no-explicit-any
const name = "lighthouse";
const { default: lighthouse } = await import(name) as any;
const [url, port, form] = Deno.args;
/** As the presets of Lighthouse's own command have it. */
const DESKTOP = {
  formFactor: "desktop",
  screenEmulation: { mobile: false, width: 1350, height: 940, deviceScaleFactor: 1, disabled: false },
  throttling: { rttMs: 40, throughputKbps: 10_240, cpuSlowdownMultiplier: 1 },
};
const { lhr } = await lighthouse(url, {
  port: Number(port),
  output: "json",
  logLevel: "error",
  onlyCategories: ["performance", "accessibility", "best-practices"],
  ...(form === "desktop" ? DESKTOP : {}),
});
const scores = Object.entries(lhr.categories as Record<string, any>).map(([name, { score }]) => [name, score * 100]);
const findings = Object.values(lhr.audits as Record<string, any>)
  .filter(({ score, scoreDisplayMode }) => score !== null && score < 0.9 && scoreDisplayMode !== "informative")
  .map(({ id, displayValue = "" }) => `${id} ${displayValue}`.trim());
console.log(JSON.stringify({ scores: Object.fromEntries(scores), findings, error: lhr.runtimeError?.message }));
Deno.exit(0);
