import { useEffect, useState } from "react";
import { checks } from "./checks";
import { Row } from "./Row";

export default function App() {
  const [results, setResults] = useState<Record<string, string>>({});

  useEffect(() => {
    let current = true;
    for (const check of checks) {
      Promise.resolve()
        .then(check.run)
        .catch((error: unknown) => `failed: ${String(error)}`)
        .then((result) => current && setResults((before) => ({ ...before, [check.library]: result })));
    }
    return () => {
      current = false;
    };
  }, []);

  const agreeing = checks.filter((check) => results[check.library] === check.expected).length;

  return (
    <main>
      <h1>CommonJS libraries</h1>
      <p>
        <span data-testid="all-ok">
          {agreeing} of {checks.length}
        </span>{" "}
        answer as they should.
      </p>
      <table>
        <thead>
          <tr>
            <th>Library</th>
            <th>How it is published or used</th>
            <th>Result</th>
          </tr>
        </thead>
        <tbody>
          {checks.map((check) => (
            <Row key={check.library} {...check} result={results[check.library]} />
          ))}
        </tbody>
      </table>
    </main>
  );
}
