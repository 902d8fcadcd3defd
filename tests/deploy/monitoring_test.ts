/** The alerts and the dashboard against what a running service really says on /metrics, and as Prometheus reads them. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { parse, stringify } from "yaml";
import { toolPath } from "../harness/cache.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { startMosquitto } from "../harness/mosquitto.ts";
import { needs } from "../harness/needs.ts";
import { freePort } from "../harness/ports.ts";
import { run, runOn } from "../harness/process.ts";
import { PROJECT, readProject } from "../harness/project.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const ALERTS = `${PROJECT.pathname}deploy/alerts.yaml`;
/** Labels that Prometheus gives by itself. */
const SCRAPE = ["job", "instance"];

interface Query {
  /** The alert, or the panel. */
  of: string;
  expr: string;
}

interface Dashboard {
  panels: { title: string; targets?: { expr: string }[] }[];
}

async function alertQueries(): Promise<Query[]> {
  const { groups }: { groups: { rules: { alert: string; expr: string }[] }[] } = parse(
    await readProject("deploy/alerts.yaml"),
  );
  return groups.flatMap(({ rules }) => rules.map(({ alert, expr }) => ({ of: alert, expr })));
}

/** With what Grafana fills in for its variables. */
async function panelQueries(): Promise<Query[]> {
  const { panels }: Dashboard = JSON.parse(await readProject("deploy/grafana-dashboard.json"));
  const values: Record<string, string> = { job: ".*", instance: ".*", __rate_interval: "5m" };
  const filled = (expr: string) => expr.replace(/\$(\w+)/g, (variable, name) => values[name] ?? variable);
  return panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ of: title, expr: filled(expr) })));
}

/** Each metric of the text with the labels of its samples; none where it has no sample yet. */
function parseMetrics(text: string): Map<string, Set<string>> {
  const metrics = new Map<string, Set<string>>();
  for (const [, name, type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    for (const end of type === "histogram" ? ["_bucket", "_sum", "_count"] : [""]) metrics.set(name! + end, new Set());
  }
  for (const [, name, labels = ""] of text.matchAll(/^([a-z_]+)(?:\{(.*)\})? \S+$/gm)) {
    for (const [, label] of labels.matchAll(/(\w+)="/g)) metrics.get(name!)?.add(label!);
  }
  return metrics;
}

/** Metrics of a query with the labels that it picks them by. */
function selectors(expr: string): { metric: string; labels: string[] }[] {
  return [...expr.matchAll(/\b((?:mqtt_job_listener|process)_\w+)(?:\{([^}]*)\})?/g)].map((
    [, metric, inside = ""],
  ) => ({
    metric: metric!,
    labels: [...inside.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label!),
  }));
}

/** A service that has seen a success, a failure, and a table with an error. */
async function metricsOfAService(): Promise<string> {
  await using broker = await startMosquitto();
  const dir = await scratchFolder("metrics");
  try {
    const rows = [
      { job_name: "good", mqtt_topic: "lab/good", image: "none", command: shell("true") },
      { job_name: "bad", mqtt_topic: "lab/bad", image: "none", command: shell("exit 3") },
    ];
    await Deno.writeTextFile(`${dir}/jobs.csv`, csv(rows));
    const page = freePort();
    await using ear = await MqttEar.connect(broker.url, [`${PREFIX}/#`]);
    await using _service = await startService({
      MQTT_URL: broker.url,
      CLUSTER: "local",
      CATALOG_URL: `${dir}/jobs.csv`,
      STATUS_ADDR: `127.0.0.1:${page}`,
      DATA_DIR: `${dir}/index`,
    });
    await ear.publish("lab/good", "");
    await ear.publish("lab/bad", "");
    const ends = () =>
      ["job_complete/good", "job_failed/bad"].every((topic) => ear.json(`${PREFIX}/${topic}`).length > 0);
    await eventually(ends, { what: "both ends" });
    return await (await fetch(`http://127.0.0.1:${page}/metrics`)).text();
  } finally {
    await removeFolder(dir);
  }
}

Deno.test({
  name: "each query of the alerts and of the dashboard asks for metrics and labels that a running service has",
  ignore: !await needs("mosquitto"),
  async fn(t) {
    const text = await metricsOfAService();
    const metrics = parseMetrics(text);
    const queries = [...await alertQueries(), ...await panelQueries()];
    ok(queries.length > 50);

    await t.step("the metrics are there", () => {
      for (const { of, expr } of queries) {
        const asked = selectors(expr);
        ok(asked.length > 0, `${of}: ${expr}`);
        deepEqual(asked.map(({ metric }) => metric).filter((metric) => !metrics.has(metric)), [], of);
      }
    });

    await t.step("with the labels that they are picked and summed by", () => {
      const looked = new Set<string>();
      for (const { of, expr } of queries) {
        const summed = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, names]) => names!.split(/,\s*/));
        for (const { metric, labels } of selectors(expr)) {
          const has = metrics.get(metric)!;
          // A counter by reason has no sample before the first reason.
          if (has.size === 0 && !new RegExp(`^${metric} `, "m").test(text)) continue;
          looked.add(metric);
          const missing = [...labels, ...summed].filter((label) => !has.has(label) && !SCRAPE.includes(label));
          deepEqual(missing, [], `${of}: ${metric}`);
        }
      }
      for (const metric of ["mqtt_job_listener_runs_ended_total", "mqtt_job_listener_job_runs_ended_total"]) {
        ok(looked.has(metric), metric);
      }
    });

    await t.step({
      name: "promtool finds nothing to say about /metrics",
      ignore: !await needs("promtool"),
      async fn() {
        const { code, said } = await runOn(text, toolPath("promtool")!, ["check", "metrics"]);
        equal(said, "");
        equal(code, 0);
      },
    });
  },
});

Deno.test({
  name: "promtool accepts the alerts and each query of the dashboard",
  ignore: !await needs("promtool"),
  async fn() {
    await run(toolPath("promtool")!, ["check", "rules", ALERTS]);
    const dir = await scratchFolder("rules");
    try {
      // As rules that record: promtool parses no query by itself.
      const rules = (await panelQueries()).map(({ expr }, index) => ({ record: `panel:${index}`, expr }));
      await Deno.writeTextFile(`${dir}/panels.yaml`, stringify({ groups: [{ name: "panels", rules }] }));
      await run(toolPath("promtool")!, ["check", "rules", `${dir}/panels.yaml`]);
    } finally {
      await removeFolder(dir);
    }
  },
});
