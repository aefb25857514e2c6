import { format } from "date-fns";
import { Lightbulb } from "lucide-react";
import { Counter } from "@/components/Counter";
import { PageHeader } from "@/components/PageHeader";
import { QuickAdd } from "@/components/tasks/QuickAdd";
import { TaskList } from "@/components/tasks/TaskList";
import { Accordion, AccordionContent, AccordionItem, AccordionTrigger } from "@/components/ui/accordion";
import { Card, CardContent, CardHeader, CardTitle } from "@/components/ui/card";
import { Progress } from "@/components/ui/progress";
import { dayKey } from "@/lib/dates";
import { plural } from "@/lib/utils";
import { useSettings } from "@/store/settings-store";
import { useTaskStore } from "@/store/task-store";

const tips = Object.entries(
  import.meta.glob<string>("../content/tips/*.md", { query: "?raw", import: "default", eager: true }),
).map(([path, text]) => {
  const [heading, ...rest] = text.trim().split("\n");
  return { path, title: heading.replace(/^#\s*/, ""), body: rest.join("\n").trim() };
});

const Index = () => {
  const tasks = useTaskStore((state) => state.tasks);
  const firstList = useTaskStore((state) => state.lists[0]);
  const { dailyGoal, showDone } = useSettings();

  const today = dayKey(new Date());
  const due = tasks.filter((task) => task.due !== null && task.due <= today);
  const open = due.filter((task) => task.status !== "done");
  const done = due.filter((task) => task.status === "done");
  const percent = due.length === 0 ? 0 : Math.round((done.length / due.length) * 100);

  return (
    <>
      <PageHeader title="Today" description={format(new Date(), "EEEE, d MMMM")} />
      <div className="grid gap-6 lg:grid-cols-[minmax(0,1fr)_20rem]">
        <div className="space-y-4">
          {firstList && <QuickAdd listId={firstList.id} due={today} />}
          <TaskList
            tasks={showDone ? [...open, ...done] : open}
            emptyTitle="Nothing is due"
            emptyDescription="Enjoy it, or pull something from the board."
          />
        </div>
        <div className="space-y-6">
          <Card>
            <CardHeader className="pb-3">
              <CardTitle>{plural(open.length, "task")} left</CardTitle>
            </CardHeader>
            <CardContent className="space-y-2">
              <Progress value={percent} aria-label="Share of today's tasks that are done" />
              <p className="text-sm text-muted-foreground">{percent}% of what was due is done.</p>
            </CardContent>
          </Card>
          <Counter goal={dailyGoal} />
          <Card>
            <CardHeader className="pb-0">
              <CardTitle className="flex items-center gap-2">
                <Lightbulb className="h-5 w-5 text-amber-500" />
                Tips
              </CardTitle>
            </CardHeader>
            <CardContent>
              <Accordion type="single" collapsible data-testid="tips">
                {tips.map((tip) => (
                  <AccordionItem key={tip.path} value={tip.path} className="last:border-0">
                    <AccordionTrigger>{tip.title}</AccordionTrigger>
                    <AccordionContent className="text-muted-foreground">{tip.body}</AccordionContent>
                  </AccordionItem>
                ))}
              </Accordion>
            </CardContent>
          </Card>
        </div>
      </div>
    </>
  );
};

export default Index;
