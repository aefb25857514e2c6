import { useEffect, useState } from "react";
import { Coffee, Moon, Sun } from "lucide-react";
import { MenuCard } from "@/components/MenuCard";
import { Order } from "@/components/Order";
import { drinks } from "@/menu";

export default function App() {
  const [dark, setDark] = useState(false);
  const [order, setOrder] = useState<Record<string, number>>({});

  useEffect(() => {
    document.documentElement.classList.toggle("dark", dark);
  }, [dark]);

  const add = (id: string) => setOrder((current) => ({ ...current, [id]: (current[id] ?? 0) + 1 }));

  return (
    <div className="mx-auto max-w-5xl px-6 py-12">
      <header className="mb-10 flex items-center justify-between">
        <div className="flex items-center gap-3">
          <Coffee className="size-9 animate-steam text-roast-600" />
          <div>
            <h1 className="font-display text-4xl font-bold" data-testid="heading">
              Harbour Coffee
            </h1>
            <p className="text-roast-900/70 dark:text-roast-100/70">Order at the counter, or here.</p>
          </div>
        </div>
        <button
          type="button"
          aria-label={dark ? "Light theme" : "Dark theme"}
          data-testid="theme"
          onClick={() => setDark(!dark)}
          className="rounded-full p-3 transition hover:bg-roast-100 dark:hover:bg-roast-900"
        >
          {dark ? <Sun className="size-5" /> : <Moon className="size-5" />}
        </button>
      </header>
      <main className="grid gap-8 lg:grid-cols-[1fr_18rem]">
        <div className="@container">
          <div className="grid gap-4 @md:grid-cols-2">
            {drinks.map((drink) => (
              <MenuCard key={drink.id} drink={drink} onAdd={() => add(drink.id)} />
            ))}
          </div>
        </div>
        <Order order={order} onClear={() => setOrder({})} />
      </main>
    </div>
  );
}
