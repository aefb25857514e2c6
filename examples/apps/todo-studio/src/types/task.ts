export const STATUSES = ["todo", "doing", "done"] as const;
export type Status = (typeof STATUSES)[number];

export const PRIORITIES = ["low", "medium", "high"] as const;
export type Priority = (typeof PRIORITIES)[number];

export interface TaskListInfo {
  id: string;
  name: string;
  /** A Tailwind background class. */
  color: string;
}

export interface Task {
  id: string;
  title: string;
  notes: string;
  listId: string;
  status: Status;
  priority: Priority;
  /** `yyyy-MM-dd`, or null for a task without a date. */
  due: string | null;
  createdAt: string;
  completedAt: string | null;
}

export type NewTask = Pick<Task, "title" | "listId"> & Partial<Pick<Task, "notes" | "priority" | "due" | "status">>;

export const STATUS_LABELS: Record<Status, string> = {
  todo: "To do",
  doing: "In progress",
  done: "Done",
};

export const PRIORITY_LABELS: Record<Priority, string> = {
  low: "Low",
  medium: "Medium",
  high: "High",
};
