/** The AWS SDK's environment in a test: what is given, and nothing of this machine's own. */

/** Sets the variables and unsets all others of AWS until it is disposed of. */
export function useAws(variables: Readonly<Record<string, string>>): Disposable {
  const before = Deno.env.toObject();
  const isAws = (name: string) => name.startsWith("AWS_") || name === "HOME";
  for (const name of Object.keys(before).filter((name) => name.startsWith("AWS_"))) Deno.env.delete(name);
  const nothing = {
    AWS_CONFIG_FILE: "/dev/null",
    AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
    AWS_EC2_METADATA_DISABLED: "true",
  };
  for (const [name, value] of Object.entries({ ...nothing, ...variables })) Deno.env.set(name, value);
  return {
    [Symbol.dispose]() {
      for (const name of Object.keys(Deno.env.toObject()).filter(isAws)) Deno.env.delete(name);
      for (const [name, value] of Object.entries(before)) if (isAws(name)) Deno.env.set(name, value);
    },
  };
}

/** The same with a key in the environment. */
export function useCredentials({ accessKey, secretKey }: { accessKey?: string; secretKey?: string }): Disposable {
  return useAws({
    ...(accessKey ? { AWS_ACCESS_KEY_ID: accessKey } : {}),
    ...(secretKey ? { AWS_SECRET_ACCESS_KEY: secretKey } : {}),
  });
}
