import { ArrowRight, MoreVertical } from "lucide-react";
import { Link } from "react-router-dom";
import { PriorityBadge } from "@/components/tasks/PriorityBadge";
import { Badge } from "@/components/ui/badge";
import { Button } from "@/components/ui/button";
import { Card } from "@/components/ui/card";
import {
  DropdownMenu,
  DropdownMenuContent,
  DropdownMenuItem,
  DropdownMenuTrigger,
} from "@/components/ui/dropdown-menu";
import { dueLabel } from "@/lib/dates";
import { cn } from "@/lib/utils";
import { useTaskStore } from "@/store/task-store";
import { STATUSES, STATUS_LABELS, type Status, type Task } from "@/types/task";

const accents: Record<Status, string> = {
  todo: "border-t-slate-400",
  doing: "border-t-primary",
  done: "border-t-success",
};

export function BoardColumn({ status, tasks }: { status: Status; tasks: Task[] }) {
  return (
    <section
      className={cn("flex flex-col gap-3 rounded-lg border border-t-4 bg-muted/50 p-4", accents[status])}
      data-testid={`column-${status}`}
    >
      <h2 className="flex items-center justify-between font-semibold">
        {STATUS_LABELS[status]}
        <Badge variant={status === "done" ? "success" : "secondary"}>{tasks.length}</Badge>
      </h2>
      {tasks.map((task) => (
        <BoardCard key={task.id} task={task} />
      ))}
      {tasks.length === 0 && <p className="py-6 text-center text-sm text-muted-foreground">Nothing here</p>}
    </section>
  );
}

function BoardCard({ task }: { task: Task }) {
  const setStatus = useTaskStore((state) => state.setStatus);
  const list = useTaskStore((state) => state.lists.find((other) => other.id === task.listId));

  return (
    <Card className="space-y-3 p-4">
      <div className="flex items-start gap-2">
        <Link to={`/lists/${task.listId}/tasks/${task.id}`} className="flex-1 text-sm font-medium hover:underline">
          {task.title}
        </Link>
        <DropdownMenu>
          <DropdownMenuTrigger asChild>
            <Button variant="ghost" size="icon" className="-mr-2 -mt-1 h-7 w-7" aria-label={`Move ${task.title}`}>
              <MoreVertical />
            </Button>
          </DropdownMenuTrigger>
          <DropdownMenuContent align="end">
            {STATUSES.filter((status) => status !== task.status).map((status) => (
              <DropdownMenuItem key={status} onSelect={() => setStatus(task.id, status)}>
                <ArrowRight />
                {STATUS_LABELS[status]}
              </DropdownMenuItem>
            ))}
          </DropdownMenuContent>
        </DropdownMenu>
      </div>
      <div className="flex items-center gap-2 text-xs text-muted-foreground">
        {list && (
          <>
            <span className={cn("h-2 w-2 rounded-full", list.color)} />
            {list.name}
          </>
        )}
        {task.due && <span>· {dueLabel(task.due)}</span>}
        <span className="ml-auto">
          <PriorityBadge priority={task.priority} />
        </span>
      </div>
    </Card>
  );
}
