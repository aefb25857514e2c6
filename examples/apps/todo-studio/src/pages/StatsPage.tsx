import { format, isToday } from "date-fns";
import { CircleCheck, Clock, Flame, ListTodo } from "lucide-react";
import { PageHeader } from "@/components/PageHeader";
import { BarChart } from "@/components/stats/BarChart";
import { StatCard } from "@/components/stats/StatCard";
import { Card, CardContent, CardDescription, CardHeader, CardTitle } from "@/components/ui/card";
import { Table, TableBody, TableCell, TableHead, TableHeader, TableRow } from "@/components/ui/table";
import { dayKey, isOverdue, lastDays } from "@/lib/dates";
import { useTaskStore } from "@/store/task-store";

const StatsPage = () => {
  const tasks = useTaskStore((state) => state.tasks);
  const lists = useTaskStore((state) => state.lists);

  const open = tasks.filter((task) => task.status !== "done");
  const done = tasks.filter((task) => task.status === "done");
  const overdue = open.filter((task) => task.due !== null && isOverdue(task.due));

  const perDay = lastDays(7).map((day) => ({
    label: format(day, "EEE"),
    value: done.filter((task) => task.completedAt !== null && dayKey(new Date(task.completedAt)) === dayKey(day)).length,
    highlighted: isToday(day),
  }));

  return (
    <>
      <PageHeader title="Stats" description="What got done, and where." />
      <div className="grid gap-4 sm:grid-cols-2 lg:grid-cols-4">
        <StatCard label="Open" value={open.length} icon={ListTodo} />
        <StatCard label="Done" value={done.length} icon={CircleCheck} />
        <StatCard label="Overdue" value={overdue.length} icon={Clock} hint="Open and past their date" />
        <StatCard
          label="High priority"
          value={open.filter((task) => task.priority === "high").length}
          icon={Flame}
          hint="Open tasks only"
        />
      </div>
      <div className="mt-6 grid gap-6 lg:grid-cols-2">
        <Card>
          <CardHeader>
            <CardTitle>Last seven days</CardTitle>
            <CardDescription>Tasks done per day</CardDescription>
          </CardHeader>
          <CardContent>
            <BarChart bars={perDay} caption="Tasks done on each of the last seven days" />
          </CardContent>
        </Card>
        <Card>
          <CardHeader>
            <CardTitle>Lists</CardTitle>
            <CardDescription>How far each of them is</CardDescription>
          </CardHeader>
          <CardContent>
            <Table>
              <TableHeader>
                <TableRow>
                  <TableHead>List</TableHead>
                  <TableHead>Open</TableHead>
                  <TableHead>Done</TableHead>
                </TableRow>
              </TableHeader>
              <TableBody>
                {lists.map((list) => (
                  <TableRow key={list.id}>
                    <TableCell className="font-medium">{list.name}</TableCell>
                    <TableCell>{open.filter((task) => task.listId === list.id).length}</TableCell>
                    <TableCell>{done.filter((task) => task.listId === list.id).length}</TableCell>
                  </TableRow>
                ))}
              </TableBody>
            </Table>
          </CardContent>
        </Card>
      </div>
    </>
  );
};

export default StatsPage;
