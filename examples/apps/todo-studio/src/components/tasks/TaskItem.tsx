import { CalendarClock, MoreHorizontal, Trash2 } from "lucide-react";
import { Link } from "react-router-dom";
import { PriorityBadge } from "@/components/tasks/PriorityBadge";
import { Button } from "@/components/ui/button";
import { Checkbox } from "@/components/ui/checkbox";
import {
  DropdownMenu,
  DropdownMenuContent,
  DropdownMenuItem,
  DropdownMenuSeparator,
  DropdownMenuTrigger,
} from "@/components/ui/dropdown-menu";
import { toast } from "@/components/ui/sonner";
import { dueLabel, inDays, isOverdue } from "@/lib/dates";
import { cn } from "@/lib/utils";
import { useTaskStore } from "@/store/task-store";
import type { Task } from "@/types/task";

export function TaskItem({ task }: { task: Task }) {
  const setStatus = useTaskStore((state) => state.setStatus);
  const updateTask = useTaskStore((state) => state.updateTask);
  const removeTask = useTaskStore((state) => state.removeTask);
  const addTask = useTaskStore((state) => state.addTask);
  const done = task.status === "done";

  const onRemove = () => {
    removeTask(task.id);
    toast("Task deleted", {
      description: task.title,
      action: { label: "Undo", onClick: () => addTask(task) },
    });
  };

  return (
    <li
      className="group flex items-center gap-3 rounded-lg border bg-card px-4 py-3 shadow-soft transition-colors hover:border-primary/40"
      data-testid="task-item"
    >
      <Checkbox
        checked={done}
        onCheckedChange={(checked) => setStatus(task.id, checked === true ? "done" : "todo")}
        aria-label={`${task.title} is done`}
      />
      <Link
        to={`/lists/${task.listId}/tasks/${task.id}`}
        className={cn("min-w-0 flex-1 truncate", done && "text-muted-foreground line-through")}
      >
        {task.title}
      </Link>
      {task.due && (
        <span
          className={cn(
            "hidden items-center gap-1 text-xs text-muted-foreground sm:flex",
            !done && isOverdue(task.due) && "font-medium text-destructive",
          )}
        >
          <CalendarClock className="h-3.5 w-3.5" />
          {dueLabel(task.due)}
        </span>
      )}
      <PriorityBadge priority={task.priority} />
      <DropdownMenu>
        <DropdownMenuTrigger asChild>
          <Button variant="ghost" size="icon" className="h-8 w-8" aria-label={`More for ${task.title}`}>
            <MoreHorizontal />
          </Button>
        </DropdownMenuTrigger>
        <DropdownMenuContent align="end">
          <DropdownMenuItem onSelect={() => updateTask(task.id, { due: inDays(0) })}>Due today</DropdownMenuItem>
          <DropdownMenuItem onSelect={() => updateTask(task.id, { due: inDays(1) })}>Due tomorrow</DropdownMenuItem>
          <DropdownMenuItem onSelect={() => updateTask(task.id, { due: null })}>No date</DropdownMenuItem>
          <DropdownMenuSeparator />
          <DropdownMenuItem className="text-destructive" onSelect={onRemove}>
            <Trash2 />
            Delete
          </DropdownMenuItem>
        </DropdownMenuContent>
      </DropdownMenu>
    </li>
  );
}
