const FACTS = [
  { tea: "Green", celsius: 75, minutes: 2 },
  { tea: "Oolong", celsius: 90, minutes: 3 },
  { tea: "Black", celsius: 98, minutes: 4 },
];

export function renderFacts(host: HTMLElement) {
  const table = document.createElement("table");
  table.dataset.testid = "facts";
  table.createTHead().innerHTML = "<tr><th>Tea</th><th>Water</th><th>Time</th></tr>";
  const body = table.createTBody();
  for (const { tea, celsius, minutes } of FACTS) {
    const row = body.insertRow();
    for (const text of [tea, `${celsius} °C`, `${minutes} min`]) row.insertCell().textContent = text;
  }
  host.replaceChildren(table);
}
