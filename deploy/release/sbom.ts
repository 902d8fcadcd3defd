/**
 * The bill of materials of the program: the packages that its modules reach, by deno.lock with their hashes, and Deno's
 * runtime. SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/). Reads no file; the same input gives the same text.
 */

/** What of `deno info --json main.ts` counts here. */
export interface Graph {
  readonly modules: readonly { readonly kind?: string; readonly npmPackage?: string }[];
  readonly npmPackages: Readonly<Record<string, GraphPackage>>;
}

/** A package and the ids of those that it needs. */
export interface GraphPackage {
  readonly name: string;
  readonly version: string;
  readonly dependencies: readonly string[];
}

export interface SbomInput {
  readonly version: string;
  readonly denoVersion: string;
  readonly graph: Graph;
  /** By the id of a package, as in deno.lock. */
  readonly integrity: (id: string) => string | undefined;
  /** What a package says of its licence, as an SPDX expression. */
  readonly license: (id: string) => string | undefined;
  /** When what is released was made: not when this runs. */
  readonly created: Date;
}

const NAME = "mqtt-job-listener";
const ROOT = "SPDXRef-Program";
const DENO = "SPDXRef-Deno";

/** Ids of the packages that the modules need, through all others, in order. Those of tests alone are not among them. */
export function reached({ modules, npmPackages }: Graph): string[] {
  const found = new Set<string>();
  const open = modules.flatMap(({ kind, npmPackage }) => kind === "npm" && npmPackage ? [npmPackage] : []);
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    if (found.has(id)) continue;
    found.add(id);
    open.push(...npmPackages[id]?.dependencies ?? []);
  }
  return [...found].sort();
}

/** The document, as JSON ends up in the file. */
export function sbom(input: SbomInput): Record<string, unknown> {
  const ids = reached(input.graph);
  const packages = ids.map((id) => npmPackage(id, input));
  const { version } = input;
  return {
    spdxVersion: "SPDX-2.3",
    dataLicense: "CC0-1.0",
    SPDXID: "SPDXRef-DOCUMENT",
    name: `${NAME}-${version}`,
    documentNamespace: `https://spdx.org/spdxdocs/${NAME}-${version}-${input.created.getTime()}`,
    creationInfo: {
      created: input.created.toISOString().replace(/\.\d+Z$/, "Z"),
      creators: ["Tool: deno task release"],
    },
    packages: [
      { ...described(ROOT, NAME, version, "MIT"), primaryPackagePurpose: "APPLICATION" },
      {
        ...described(DENO, "deno", input.denoVersion, "MIT"),
        ...purl(`pkg:github/denoland/deno@v${input.denoVersion}`),
      },
      ...packages,
    ],
    relationships: [
      related("SPDXRef-DOCUMENT", "DESCRIBES", ROOT),
      related(ROOT, "DEPENDS_ON", DENO),
      ...directly(input.graph).map((id) => related(ROOT, "DEPENDS_ON", reference(id))),
      ...ids.flatMap((id) =>
        (input.graph.npmPackages[id]?.dependencies ?? []).map((on) =>
          related(reference(id), "DEPENDS_ON", reference(on))
        )
      ),
    ],
  };
}

function directly({ modules }: Graph): string[] {
  return [...new Set(modules.flatMap(({ npmPackage }) => npmPackage ?? []))].sort();
}

function npmPackage(id: string, { graph, integrity, license }: SbomInput): Record<string, unknown> {
  const found = graph.npmPackages[id];
  if (found === undefined) throw new Error(`Cannot list ${id}: deno info does not say what it is`);
  const { name, version } = found;
  const [algorithm, hash] = (integrity(id) ?? "").split(/-(.*)/s);
  if (algorithm !== "sha512" || !hash) throw new Error(`Cannot list ${id}: deno.lock has no SHA-512 of it`);
  const checksumValue = Array.from(atob(hash), (char) => char.charCodeAt(0).toString(16).padStart(2, "0")).join("");
  return {
    ...described(reference(id), name, version, license(id) ?? "NOASSERTION"),
    checksums: [{ algorithm: "SHA512", checksumValue }],
    // The @ of a scope is encoded (https://github.com/package-url/purl-spec).
    ...purl(`pkg:npm/${name.replace(/^@/, "%40")}@${version}`),
  };
}

function described(SPDXID: string, name: string, versionInfo: string, licenseDeclared: string) {
  return {
    SPDXID,
    name,
    versionInfo,
    downloadLocation: "NOASSERTION",
    filesAnalyzed: false,
    licenseConcluded: "NOASSERTION",
    licenseDeclared,
    copyrightText: "NOASSERTION",
  };
}

function purl(referenceLocator: string) {
  return { externalRefs: [{ referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator }] };
}

function related(spdxElementId: string, relationshipType: string, relatedSpdxElement: string) {
  return { spdxElementId, relationshipType, relatedSpdxElement };
}

/** Letters, digits, dots and hyphens are allowed. */
function reference(id: string): string {
  return `SPDXRef-npm-${id.replace(/[^\w.]|_/g, "-")}`;
}
