// Chromium, driven by playwright-core: pages of two origins that open WebSockets. Prints {"origins": […]}, then answers
// commands {page, url, protocols?, sandboxed?} by {result: "open", echo, protocol} or {result: "error", code}.
'use strict';
const http = require('node:http');
const readline = require('node:readline');
const { chromium } = require('playwright-core');

const PAGE = '<!doctype html><title>page</title>';
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

function serve() {
  return new Promise((resolve) => {
    const server = http.createServer((request, response) => response.setHeader('Content-Type', 'text/html').end(PAGE));
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
}

// Runs in the page.
function open([url, protocols]) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url, protocols);
    let failed = false;
    socket.onopen = () => socket.send('hello from a page');
    socket.onmessage = ({ data }) => {
      resolve({ result: 'open', echo: data, protocol: socket.protocol, origin: self.origin });
      socket.close();
    };
    socket.onerror = () => { failed = true; };
    socket.onclose = ({ code }) => resolve({ result: failed ? 'error' : 'closed', code, origin: self.origin });
  });
}

async function connect(browser, { page: origin, url, protocols = [], sandboxed = false }) {
  const page = await browser.newPage();
  try {
    // From a server in any case, be it a problem document: a page from nowhere may not connect to this machine at all.
    await page.goto(`${origin}/`);
    if (!sandboxed) return await page.evaluate(open, [url, protocols]);
    await page.evaluate(() => {
      const frame = document.createElement('iframe');
      frame.sandbox = 'allow-scripts';
      frame.srcdoc = '<!doctype html>';
      document.body.append(frame);
      return new Promise((resolve) => { frame.onload = resolve; });
    });
    return await page.frames()[1].evaluate(open, [url, protocols]);
  } finally {
    await page.close();
  }
}

async function main() {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run'],
  });
  say({ origins: [await serve(), await serve()] });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      say(await connect(browser, JSON.parse(line)));
    } catch (error) {
      say({ error: String(error) });
    }
  }
  await browser.close();
  process.exit(0);
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
