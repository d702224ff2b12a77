// What a browser says of the device it runs on; never anything that tells one person from another.

export async function describeDevice() {
  const said = { platform: null, platformVersion: null, model: null, architecture: null };
  try {
    Object.assign(said, await navigator.userAgentData.getHighEntropyValues(["platformVersion", "model", "architecture"]));
  } catch {
    said.platform = navigator.platform;
  }
  return {
    user_agent: navigator.userAgent.slice(0, 300),
    platform: said.platform || null,
    platform_version: said.platformVersion || null,
    model: said.model || null,
    architecture: said.architecture || null,
    cores: navigator.hardwareConcurrency ?? null,
    memory_gib: navigator.deviceMemory ?? null,
  };
}
