import { X } from "lucide-react";
import { Link, useParams } from "react-router-dom";
import { Button } from "@/components/ui/button";
import { Card, CardContent, CardHeader } from "@/components/ui/card";
import { Input } from "@/components/ui/input";
import { Label } from "@/components/ui/label";
import { Select, SelectContent, SelectItem, SelectTrigger, SelectValue } from "@/components/ui/select";
import { Textarea } from "@/components/ui/textarea";
import { useTaskStore } from "@/store/task-store";
import {
  PRIORITIES,
  PRIORITY_LABELS,
  STATUSES,
  STATUS_LABELS,
  type Priority,
  type Status,
} from "@/types/task";

const TaskPage = () => {
  const { listId, taskId } = useParams();
  const task = useTaskStore((state) => state.tasks.find((other) => other.id === taskId));
  const updateTask = useTaskStore((state) => state.updateTask);
  const setStatus = useTaskStore((state) => state.setStatus);

  if (!task) {
    return <p className="text-sm text-muted-foreground">This task no longer exists.</p>;
  }

  return (
    <Card className="h-fit" data-testid="task-detail">
      <CardHeader className="flex-row items-center justify-between space-y-0">
        <span className="text-xs text-muted-foreground">Added {new Date(task.createdAt).toLocaleDateString()}</span>
        <Button variant="ghost" size="icon" className="h-8 w-8" asChild>
          <Link to={`/lists/${listId}`} aria-label="Close the task">
            <X />
          </Link>
        </Button>
      </CardHeader>
      <CardContent className="space-y-4">
        <div className="space-y-2">
          <Label htmlFor="task-title">Title</Label>
          <Input
            id="task-title"
            value={task.title}
            onChange={(event) => updateTask(task.id, { title: event.target.value })}
          />
        </div>
        <div className="space-y-2">
          <Label htmlFor="task-notes">Notes</Label>
          <Textarea
            id="task-notes"
            rows={5}
            value={task.notes}
            onChange={(event) => updateTask(task.id, { notes: event.target.value })}
          />
        </div>
        <div className="space-y-2">
          <Label htmlFor="task-status">Status</Label>
          <Select value={task.status} onValueChange={(value) => setStatus(task.id, value as Status)}>
            <SelectTrigger id="task-status">
              <SelectValue />
            </SelectTrigger>
            <SelectContent>
              {STATUSES.map((status) => (
                <SelectItem key={status} value={status}>
                  {STATUS_LABELS[status]}
                </SelectItem>
              ))}
            </SelectContent>
          </Select>
        </div>
        <div className="space-y-2">
          <Label htmlFor="task-priority">Priority</Label>
          <Select
            value={task.priority}
            onValueChange={(value) => updateTask(task.id, { priority: value as Priority })}
          >
            <SelectTrigger id="task-priority">
              <SelectValue />
            </SelectTrigger>
            <SelectContent>
              {PRIORITIES.map((priority) => (
                <SelectItem key={priority} value={priority}>
                  {PRIORITY_LABELS[priority]}
                </SelectItem>
              ))}
            </SelectContent>
          </Select>
        </div>
        <div className="space-y-2">
          <Label htmlFor="task-due">Due</Label>
          <Input
            id="task-due"
            type="date"
            value={task.due ?? ""}
            onChange={(event) => updateTask(task.id, { due: event.target.value || null })}
          />
        </div>
      </CardContent>
    </Card>
  );
};

export default TaskPage;
