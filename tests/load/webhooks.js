// Sends webhooks at a constant rate by a fixed number of users; each request once.
// k6 run -e FILE=requests.json -e USERS=10 -e RATE=50 -e SUMMARY=out.json tests/load/webhooks.js
// FILE holds [{url, signature, body}, ...]: tools/bench/scenarios.py writes it.
import exec from "k6/execution";
import http from "k6/http";
import { SharedArray } from "k6/data";

const requests = new SharedArray("requests", () => JSON.parse(open(__ENV.FILE)));
const rate = Number(__ENV.RATE);

export const options = {
  scenarios: {
    webhooks: {
      executor: "constant-arrival-rate",
      rate: rate,
      timeUnit: "1s",
      duration: `${Math.ceil(requests.length / rate)}s`,
      preAllocatedVUs: Number(__ENV.USERS),
      maxVUs: Number(__ENV.USERS),
    },
  },
  summaryTrendStats: ["med", "p(95)", "p(99)", "max"],
};

export default function () {
  const request = requests[exec.scenario.iterationInTest % requests.length];
  http.post(request.url, request.body, {
    headers: { "Content-Type": "application/json", Signature: request.signature },
  });
}

export function handleSummary(data) {
  const value = (metric, name) => (data.metrics[metric] ? data.metrics[metric].values[name] : 0);
  return {
    [__ENV.SUMMARY]: JSON.stringify({
      p95_ms: value("http_req_duration", "p(95)"),
      requests: value("http_reqs", "count"),
      // A Rate counts in `passes` how often it was true: here, how many requests failed.
      failed: value("http_req_failed", "passes"),
      // Requests that no user was free to send in time.
      dropped: value("dropped_iterations", "count"),
    }),
  };
}
