import {
  addDays,
  differenceInCalendarDays,
  eachDayOfInterval,
  endOfMonth,
  endOfWeek,
  format,
  isToday,
  isTomorrow,
  isYesterday,
  parseISO,
  startOfMonth,
  startOfWeek,
} from "date-fns";

/** How a day is stored: `2026-03-09`, without a time and without a zone. */
export const dayKey = (date: Date): string => format(date, "yyyy-MM-dd");

export const inDays = (days: number): string => dayKey(addDays(new Date(), days));

export function dueLabel(due: string): string {
  const date = parseISO(due);
  if (isToday(date)) return "Today";
  if (isTomorrow(date)) return "Tomorrow";
  if (isYesterday(date)) return "Yesterday";
  const distance = differenceInCalendarDays(date, new Date());
  return distance > 0 && distance < 7 ? format(date, "EEEE") : format(date, "d MMM");
}

export const isOverdue = (due: string): boolean => due < dayKey(new Date());

/** The days of the weeks that a month touches: 28, 35 or 42 of them. */
export function monthDays(month: Date, weekStartsOn: 0 | 1): Date[] {
  return eachDayOfInterval({
    start: startOfWeek(startOfMonth(month), { weekStartsOn }),
    end: endOfWeek(endOfMonth(month), { weekStartsOn }),
  });
}

export function lastDays(count: number): Date[] {
  const today = new Date();
  return eachDayOfInterval({ start: addDays(today, 1 - count), end: today });
}
