import { useState, type FormEvent } from "react";
import { Plus } from "lucide-react";
import { Button } from "@/components/ui/button";
import { Input } from "@/components/ui/input";
import { useTaskStore } from "@/store/task-store";

interface QuickAddProps {
  listId: string;
  due?: string;
}

export function QuickAdd({ listId, due }: QuickAddProps) {
  const addTask = useTaskStore((state) => state.addTask);
  const [title, setTitle] = useState("");

  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    const trimmed = title.trim();
    if (!trimmed) return;
    addTask({ title: trimmed, listId, due: due ?? null });
    setTitle("");
  };

  return (
    <form onSubmit={onSubmit} className="flex gap-2">
      <Input
        value={title}
        onChange={(event) => setTitle(event.target.value)}
        placeholder="Add a task and press Enter"
        aria-label="Title of the new task"
        data-testid="quick-add"
      />
      <Button type="submit" variant="secondary" disabled={!title.trim()}>
        <Plus />
        Add
      </Button>
    </form>
  );
}
