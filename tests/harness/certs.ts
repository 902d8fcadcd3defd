/**
 * A throwaway certificate authority by openssl: its own certificate, and certificates for servers and clients.
 * The keys are worth nothing: they live in a scratch folder for the time of a test.
 */
import { commandPath } from "./cache.ts";
import { run } from "./process.ts";

/** PEM files of one certificate and its key, and their text. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
}

export interface Authority {
  readonly caFile: string;
  readonly ca: string;
  /** A certificate for servers (and clients) at `hosts`: DNS names or IP addresses. Default 127.0.0.1 and localhost. */
  server(name: string, hosts?: readonly string[]): Promise<Certificate>;
  /** A certificate for clients. Kubernetes reads `organization` as the group and the name as the user. */
  client(name: string, options?: { organization?: string; days?: number }): Promise<Certificate>;
}

const EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** Makes an authority whose files are put into `dir`. */
export async function createAuthority(dir: string, name = "test-ca"): Promise<Authority> {
  const caFile = `${dir}/${name}.crt`;
  const caKey = `${dir}/${name}.key`;
  await openssl(["req", "-x509", ...EC_KEY, "-keyout", caKey, "-out", caFile, "-days", "30", "-subj", `/CN=${name}`]);

  async function issue(label: string, subject: string, extensions: string, days: number): Promise<Certificate> {
    const [certFile, keyFile, request, extFile] = ["crt", "key", "csr", "ext"].map((end) =>
      `${dir}/${label}.${end}`
    ) as [string, string, string, string];
    await Deno.writeTextFile(extFile, extensions);
    await openssl(["req", ...EC_KEY, "-keyout", keyFile, "-out", request, "-subj", subject]);
    // A random serial instead of -CAcreateserial, whose file two calls at once would share.
    const serial = `0x01${crypto.randomUUID().replaceAll("-", "")}`;
    const from = ["-in", request, "-CA", caFile, "-CAkey", caKey, "-set_serial", serial];
    await openssl(["x509", "-req", ...from, "-out", certFile, "-days", String(days), "-extfile", extFile]);
    return { certFile, keyFile, cert: await Deno.readTextFile(certFile), key: await Deno.readTextFile(keyFile) };
  }

  return {
    caFile,
    ca: await Deno.readTextFile(caFile),
    server(name, hosts = ["127.0.0.1", "localhost"]) {
      const names = hosts.map((host) => /^[\d.]+$/.test(host) ? `IP:${host}` : `DNS:${host}`).join(",");
      return issue(name, `/CN=${name}`, `subjectAltName=${names}\nextendedKeyUsage=serverAuth,clientAuth\n`, 30);
    },
    client(name, { organization, days = 30 } = {}) {
      const subject = `${organization === undefined ? "" : `/O=${organization}`}/CN=${name}`;
      return issue(name.replaceAll(/[^\w.-]/g, "_"), subject, "extendedKeyUsage=clientAuth\n", days);
    },
  };
}

async function openssl(args: string[]): Promise<void> {
  await run(commandPath("openssl") ?? "openssl", args);
}
