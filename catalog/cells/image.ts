/**
 * The grammar of an image reference, and what would be right instead of what is none. Pure; asks no registry.
 */

const HOST = /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::\d+)?$/;
const PATH_PART = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;

/**
 * What is wrong with an image reference and what would be right, as a clause to follow a colon; undefined: it is valid.
 * Grammar: https://github.com/distribution/reference/blob/main/reference.go
 */
export function imageFault(image: string): string | undefined {
  if (/^[a-z]+:\/\//i.test(image)) return `leave out "${image.slice(0, image.indexOf("://") + 3)}"`;
  if (/\s/.test(image)) return "an image reference has no blanks; a command belongs in the column command";
  const [named = "", digest, ...more] = image.split("@");
  if (more.length > 0 || (digest !== undefined && !DIGEST.test(digest))) {
    return `what follows "@" must be a digest such as sha256:…`;
  }
  const colon = named.lastIndexOf(":");
  const hasTag = colon > named.lastIndexOf("/");
  const name = hasTag ? named.slice(0, colon) : named;
  const tag = hasTag ? named.slice(colon + 1) : undefined;
  if (tag === "") return `give a tag after ":" or leave the colon out`;
  if (tag !== undefined && !TAG.test(tag)) {
    return `the tag "${tag}" may hold letters, digits, "_", "." and "-" only, at most 128`;
  }
  return nameFault(name);
}

function nameFault(name: string): string | undefined {
  const parts = name.split("/");
  const first = parts[0] ?? "";
  const hasHost = parts.length > 1 && (/[.:]/.test(first) || first === "localhost");
  if (hasHost && !HOST.test(first)) return `"${first}" is not a registry's host name`;
  const path = hasHost ? parts.slice(1) : parts;
  for (const part of path) {
    if (part === "") return `it has an empty part between slashes`;
    if (PATH_PART.test(part)) continue;
    if (PATH_PART.test(part.toLowerCase())) {
      const low = [...(hasHost ? [first] : []), ...path].join("/").toLowerCase();
      return `a repository is written in lower case: "${low}"`;
    }
    return `"${part}" may hold a-z, 0-9 and single ".", "_" or "-" between them only`;
  }
  return name.length > 255 ? `it has ${name.length} characters, 255 are allowed` : undefined;
}
