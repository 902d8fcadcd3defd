/**
 * Settings of how the service is seen: page, notices, traces, log. A part of the table of settings.ts.
 */
import * as kinds from "./kinds.ts";
import type { Setting } from "./setting.ts";

const PAGE = "Page and metrics";
const NOTICES = "Notices";
const TRACES = "Traces";
const LOG = "Log";

/** In the order in which people are shown them. */
export const OBSERVER_SETTINGS = {
  STATUS_ADDR: {
    kind: kinds.address,
    group: PAGE,
    preset: "127.0.0.1:8080",
    meaning: "Where the page, `/metrics` and `/healthz` are served; `off`: nowhere.",
  },
  STATUS_TOKEN: {
    kind: kinds.text,
    group: PAGE,
    otherwise: "none: read-only",
    secret: true,
    meaning: "Whoever has this token may run, cancel and repeat runs on the page. At least 16 characters that " +
      "nobody can guess, such as `openssl rand -hex 24` prints.",
  },
  STATUS_USER_HEADER: {
    kind: kinds.userHeader,
    group: PAGE,
    otherwise: "none",
    meaning: "Header in which the proxy before the page gives the name of who asks, such as `X-Forwarded-User`: for " +
      "records and the log. It allows nothing. The proxy must take it off what comes from outside.",
  },
  STATUS_HOSTS: {
    kind: kinds.hostNames,
    group: PAGE,
    otherwise: "none",
    meaning: "Other names under which the page is asked for, with commas, such as `jobs.lab.svc.cluster.local`. " +
      "Addresses, names without a dot, names of loopback and that of `STATUS_URL` are always answered, others never.",
  },
  STATUS_URL: {
    kind: kinds.pageUrl,
    group: PAGE,
    mayHoldSecret: true,
    otherwise: "none",
    meaning: "The page as people reach it; for links in notices.",
  },

  WEBHOOK_URL: {
    kind: kinds.url("https", "http"),
    group: NOTICES,
    otherwise: "none",
    secret: true,
    meaning: "Slack-compatible webhook that hears of ended runs.",
  },
  WEBHOOK_ON: {
    kind: kinds.choice("failed", "all"),
    group: NOTICES,
    preset: "failed",
    meaning: "Which runs it hears of.",
  },
  NOTIFY_CHANNELS: {
    kind: kinds.channels,
    group: NOTICES,
    otherwise: "none",
    secret: true,
    meaning:
      "Further webhooks, `name=URL` each, parted by line breaks or `;`. Rows name them in the column `notify`, and " +
      "they hear of those rows' failures instead of `WEBHOOK_URL`.",
  },

  OTEL_EXPORTER_OTLP_ENDPOINT: {
    kind: kinds.url("https", "http"),
    group: TRACES,
    mayHoldSecret: true,
    otherwise: "none",
    meaning:
      "OpenTelemetry receiver that takes OTLP over HTTP, such as `http://collector:4318`; `/v1/traces` is added. " +
      "Absent: no traces are made.",
  },
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: {
    kind: kinds.url("https", "http"),
    group: TRACES,
    mayHoldSecret: true,
    otherwise: "from `OTEL_EXPORTER_OTLP_ENDPOINT`",
    meaning: "The same for traces alone, as the whole address.",
  },
  OTEL_EXPORTER_OTLP_HEADERS: {
    kind: kinds.otlpHeaders,
    group: TRACES,
    otherwise: "none",
    secret: true,
    meaning: "Headers for it, `name=value` each, with commas; values may be percent-encoded.",
  },
  OTEL_SERVICE_NAME: {
    kind: kinds.text,
    group: TRACES,
    preset: "mqtt-job-listener",
    meaning: "What the service is called in traces.",
  },

  LOG_LEVEL: {
    kind: kinds.level,
    group: LOG,
    preset: "info",
    meaning: "`trace`, `debug`, `info`, `warning`, `error` or `fatal`.",
  },
  LOG_FORMAT: { kind: kinds.choice("text", "json"), group: LOG, preset: "text", meaning: "`json`: one object a line." },
} as const satisfies Readonly<Record<string, Setting>>;
