// Asks the service in this container whether it is `live` or `ready`: exit code 0 if so.
const url = `http://127.0.0.1:${process.env['PORT']}/health/${process.argv[2]}`;
const response = await fetch(url, { signal: AbortSignal.timeout(4000) }).catch(() => undefined);
if (!response?.ok) {
  console.log((await response?.text()) ?? `${url} does not answer`);
  process.exit(1);
}
