import { addDays, format, isSameMonth, isToday, startOfWeek } from "date-fns";
import { Link } from "react-router-dom";
import { Popover, PopoverContent, PopoverTrigger } from "@/components/ui/popover";
import { QuickAdd } from "@/components/tasks/QuickAdd";
import { dayKey, monthDays } from "@/lib/dates";
import { cn, plural } from "@/lib/utils";
import type { Task, TaskListInfo } from "@/types/task";
import styles from "./MonthGrid.module.css";

interface MonthGridProps {
  month: Date;
  weekStartsOn: 0 | 1;
  tasks: Task[];
  lists: TaskListInfo[];
}

export function MonthGrid({ month, weekStartsOn, tasks, lists }: MonthGridProps) {
  const weekStart = startOfWeek(month, { weekStartsOn });
  const colors = new Map(lists.map((list) => [list.id, list.color]));

  return (
    <div className={styles.grid} data-testid="month-grid">
      {Array.from({ length: 7 }, (_, index) => (
        <div key={index} className={styles.weekday}>
          {format(addDays(weekStart, index), "EEE")}
        </div>
      ))}
      {monthDays(month, weekStartsOn).map((day) => {
        const key = dayKey(day);
        const dayTasks = tasks.filter((task) => task.due === key);
        return (
          <Popover key={key}>
            <PopoverTrigger
              className={isSameMonth(day, month) ? styles.day : styles.outside}
              aria-label={`${format(day, "d MMMM")}, ${plural(dayTasks.length, "task")}`}
            >
              <span className={isToday(day) ? styles.today : styles.number}>{format(day, "d")}</span>
              {dayTasks.slice(0, 3).map((task) => (
                <span
                  key={task.id}
                  className={cn(
                    "flex items-center gap-1 truncate text-xs",
                    task.status === "done" && "line-through opacity-60",
                  )}
                >
                  <span className={cn("h-1.5 w-1.5 shrink-0 rounded-full", colors.get(task.listId))} />
                  <span className="truncate">{task.title}</span>
                </span>
              ))}
              {dayTasks.length > 3 && <span className="text-xs opacity-70">+{dayTasks.length - 3} more</span>}
            </PopoverTrigger>
            <PopoverContent className="space-y-3">
              <p className="font-medium">{format(day, "EEEE, d MMMM")}</p>
              {dayTasks.length === 0 && <p className="text-sm text-muted-foreground">A free day.</p>}
              <ul className="space-y-1 text-sm">
                {dayTasks.map((task) => (
                  <li key={task.id}>
                    <Link to={`/lists/${task.listId}/tasks/${task.id}`} className="hover:underline">
                      {task.title}
                    </Link>
                  </li>
                ))}
              </ul>
              {lists[0] && <QuickAdd listId={lists[0].id} due={key} />}
            </PopoverContent>
          </Popover>
        );
      })}
    </div>
  );
}
