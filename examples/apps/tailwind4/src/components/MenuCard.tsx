import { Plus } from "lucide-react";
import { price, type Drink } from "@/menu";

interface MenuCardProps {
  drink: Drink;
  onAdd: () => void;
}

export function MenuCard({ drink, onAdd }: MenuCardProps) {
  return (
    <article className="card-surface group flex flex-col gap-2 p-5 transition-shadow hover:shadow-lg" data-testid="drink">
      <div className="flex items-baseline justify-between">
        <h2 className="font-display text-xl font-semibold">{drink.name}</h2>
        <span className="tabular-nums text-roast-600 dark:text-roast-300">{price(drink.cents)}</span>
      </div>
      <p className="grow text-sm text-roast-900/70 dark:text-roast-100/70">{drink.note}</p>
      <button
        type="button"
        onClick={onAdd}
        data-testid={`add-${drink.id}`}
        className="mt-2 inline-flex items-center justify-center gap-2 rounded-lg bg-roast-600 px-4 py-2 text-sm font-medium text-white transition active:scale-[0.98] hover:bg-roast-600/90"
      >
        <Plus className="size-4" />
        Add
      </button>
    </article>
  );
}
