export interface Drink {
  id: string;
  name: string;
  note: string;
  cents: number;
}

export const drinks: Drink[] = [
  { id: "espresso", name: "Espresso", note: "Short, dark, gone in two sips.", cents: 220 },
  { id: "flat-white", name: "Flat white", note: "Two shots under a thin layer of milk.", cents: 380 },
  { id: "filter", name: "Filter", note: "A light roast, brewed by the cup.", cents: 340 },
  { id: "cortado", name: "Cortado", note: "Half espresso, half warm milk.", cents: 310 },
];

export const price = (cents: number) =>
  new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" }).format(cents / 100);
