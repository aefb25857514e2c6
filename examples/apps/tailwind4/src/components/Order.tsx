import { drinks, price } from "@/menu";

interface OrderProps {
  order: Record<string, number>;
  onClear: () => void;
}

export function Order({ order, onClear }: OrderProps) {
  const lines = drinks.filter((drink) => order[drink.id]);
  const total = lines.reduce((sum, drink) => sum + drink.cents * order[drink.id], 0);

  return (
    <aside className="card-surface h-fit p-5" data-testid="order">
      <h2 className="mb-3 font-display text-xl font-semibold">Your order</h2>
      {lines.length === 0 && <p className="text-sm text-roast-900/60 dark:text-roast-100/60">Nothing yet.</p>}
      <ul className="divide-y divide-roast-100 dark:divide-roast-950">
        {lines.map((drink) => (
          <li key={drink.id} className="flex justify-between py-2 text-sm">
            <span>
              {order[drink.id]} × {drink.name}
            </span>
            <span className="tabular-nums">{price(drink.cents * order[drink.id])}</span>
          </li>
        ))}
      </ul>
      <p className="mt-3 flex justify-between font-semibold">
        <span>Total</span>
        <output data-testid="total">{price(total)}</output>
      </p>
      {lines.length > 0 && (
        <button type="button" onClick={onClear} className="mt-3 text-sm text-roast-600 underline dark:text-roast-300">
          Clear
        </button>
      )}
    </aside>
  );
}
