import { EmptyState } from "@/components/EmptyState";
import { TaskItem } from "@/components/tasks/TaskItem";
import type { Task } from "@/types/task";

interface TaskListProps {
  tasks: Task[];
  emptyTitle: string;
  emptyDescription?: string;
}

export function TaskList({ tasks, emptyTitle, emptyDescription }: TaskListProps) {
  if (tasks.length === 0) return <EmptyState title={emptyTitle} description={emptyDescription} />;

  return (
    <ul className="space-y-2" data-testid="task-list">
      {tasks.map((task) => (
        <TaskItem key={task.id} task={task} />
      ))}
    </ul>
  );
}
