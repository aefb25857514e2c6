import { useState } from "react";
import { addMonths, format, startOfMonth } from "date-fns";
import { ChevronLeft, ChevronRight } from "lucide-react";
import { MonthGrid } from "@/components/calendar/MonthGrid";
import { PageHeader } from "@/components/PageHeader";
import { Button } from "@/components/ui/button";
import { useSettings } from "@/store/settings-store";
import { useTaskStore } from "@/store/task-store";

const CalendarPage = () => {
  const [month, setMonth] = useState(() => startOfMonth(new Date()));
  const tasks = useTaskStore((state) => state.tasks);
  const lists = useTaskStore((state) => state.lists);
  const weekStartsOn = useSettings((state) => state.weekStartsOn);

  return (
    <>
      <PageHeader title="Calendar" description={format(month, "MMMM yyyy")}>
        <Button variant="outline" size="icon" aria-label="Previous month" onClick={() => setMonth(addMonths(month, -1))}>
          <ChevronLeft />
        </Button>
        <Button variant="outline" onClick={() => setMonth(startOfMonth(new Date()))}>
          This month
        </Button>
        <Button variant="outline" size="icon" aria-label="Next month" onClick={() => setMonth(addMonths(month, 1))}>
          <ChevronRight />
        </Button>
      </PageHeader>
      <MonthGrid month={month} weekStartsOn={weekStartsOn} tasks={tasks} lists={lists} />
    </>
  );
};

export default CalendarPage;
