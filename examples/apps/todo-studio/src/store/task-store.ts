import { create } from "zustand";
import { persist } from "zustand/middleware";
import seed from "@/data/seed-tasks.json";
import { inDays } from "@/lib/dates";
import { createId } from "@/lib/utils";
import type { NewTask, Priority, Status, Task, TaskListInfo } from "@/types/task";

interface TaskState {
  lists: TaskListInfo[];
  tasks: Task[];
  addTask: (task: NewTask) => Task;
  updateTask: (id: string, change: Partial<Omit<Task, "id" | "createdAt">>) => void;
  setStatus: (id: string, status: Status) => void;
  removeTask: (id: string) => void;
  addList: (name: string) => TaskListInfo;
  clearDone: (listId?: string) => void;
  reset: () => void;
}

const LIST_COLORS = ["bg-rose-500", "bg-sky-500", "bg-violet-500", "bg-lime-500"];

function seedState(): Pick<TaskState, "lists" | "tasks"> {
  const now = new Date().toISOString();
  return {
    lists: seed.lists,
    tasks: seed.tasks.map(({ dueInDays, ...task }, index) => ({
      ...task,
      id: `seed-${index + 1}`,
      status: task.status as Status,
      priority: task.priority as Priority,
      due: dueInDays === null ? null : inDays(dueInDays),
      createdAt: now,
      completedAt: task.status === "done" ? now : null,
    })),
  };
}

export const useTaskStore = create<TaskState>()(
  persist(
    (set, get) => ({
      ...seedState(),

      addTask: (input) => {
        const task: Task = {
          notes: "",
          priority: "medium",
          due: null,
          status: "todo",
          ...input,
          id: createId(),
          createdAt: new Date().toISOString(),
          completedAt: null,
        };
        set((state) => ({ tasks: [task, ...state.tasks] }));
        return task;
      },

      updateTask: (id, change) =>
        set((state) => ({
          tasks: state.tasks.map((task) => (task.id === id ? { ...task, ...change } : task)),
        })),

      setStatus: (id, status) =>
        set((state) => ({
          tasks: state.tasks.map((task) =>
            task.id === id
              ? { ...task, status, completedAt: status === "done" ? new Date().toISOString() : null }
              : task,
          ),
        })),

      removeTask: (id) => set((state) => ({ tasks: state.tasks.filter((task) => task.id !== id) })),

      addList: (name) => {
        const { lists } = get();
        const list: TaskListInfo = { id: createId(), name, color: LIST_COLORS[lists.length % LIST_COLORS.length] };
        set({ lists: [...lists, list] });
        return list;
      },

      clearDone: (listId) =>
        set((state) => ({
          tasks: state.tasks.filter(
            (task) => task.status !== "done" || (listId !== undefined && task.listId !== listId),
          ),
        })),

      reset: () => set(seedState()),
    }),
    {
      name: "todo-studio",
      version: 1,
      partialize: ({ lists, tasks }) => ({ lists, tasks }),
    },
  ),
);
