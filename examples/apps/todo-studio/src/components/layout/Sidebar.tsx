import { useState, type FormEvent } from "react";
import { CalendarDays, ChartColumn, Columns3, Settings, Sun } from "lucide-react";
import { NavLink, useNavigate } from "react-router-dom";
import { useShallow } from "zustand/react/shallow";
import logo from "@/assets/logo.svg";
import { Input } from "@/components/ui/input";
import { Separator } from "@/components/ui/separator";
import { appTitle, cn } from "@/lib/utils";
import { useTaskStore } from "@/store/task-store";

const links = [
  { to: "/", label: "Today", icon: Sun },
  { to: "/board", label: "Board", icon: Columns3 },
  { to: "/calendar", label: "Calendar", icon: CalendarDays },
  { to: "/stats", label: "Stats", icon: ChartColumn },
  { to: "/settings", label: "Settings", icon: Settings },
];

export function Sidebar({ onNavigate }: { onNavigate?: () => void }) {
  const navigate = useNavigate();
  const lists = useTaskStore((state) => state.lists);
  const addList = useTaskStore((state) => state.addList);
  const openCounts = useTaskStore(
    useShallow((state) =>
      state.lists.map((list) => state.tasks.filter((t) => t.listId === list.id && t.status !== "done").length),
    ),
  );
  const [name, setName] = useState("");

  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    const trimmed = name.trim();
    if (!trimmed) return;
    const list = addList(trimmed);
    setName("");
    navigate(`/lists/${list.id}`);
    onNavigate?.();
  };

  return (
    <nav className="flex h-full flex-col gap-1 overflow-y-auto p-4" aria-label="Main">
      <div className="mb-4 flex items-center gap-3 px-2">
        <img src={logo} alt="" className="h-8 w-8" data-testid="logo" />
        <span className="font-semibold" data-testid="app-title">
          {appTitle}
        </span>
      </div>
      {links.map(({ to, label, icon: Icon }) => (
        <NavLink key={to} to={to} end={to === "/"} className="nav-link" onClick={onNavigate}>
          <Icon className="h-4 w-4" />
          {label}
        </NavLink>
      ))}
      <Separator className="my-3" />
      <p className="px-3 pb-1 text-xs font-semibold uppercase tracking-wider text-muted-foreground">Lists</p>
      {lists.map((list, index) => (
        <NavLink key={list.id} to={`/lists/${list.id}`} className="nav-link" onClick={onNavigate}>
          <span className={cn("h-2.5 w-2.5 rounded-full", list.color)} />
          <span className="flex-1 truncate">{list.name}</span>
          <span className="text-xs text-muted-foreground">{openCounts[index]}</span>
        </NavLink>
      ))}
      <form onSubmit={onSubmit} className="mt-2 px-1">
        <Input
          value={name}
          onChange={(event) => setName(event.target.value)}
          placeholder="New list…"
          aria-label="Name of the new list"
          className="h-8"
        />
      </form>
    </nav>
  );
}
