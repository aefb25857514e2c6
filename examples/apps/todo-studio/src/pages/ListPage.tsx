import { useMemo, useState } from "react";
import { Outlet, useParams } from "react-router-dom";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { QuickAdd } from "@/components/tasks/QuickAdd";
import { TaskFilters } from "@/components/tasks/TaskFilters";
import { TaskList } from "@/components/tasks/TaskList";
import { Button } from "@/components/ui/button";
import { useDebouncedValue } from "@/hooks/use-debounced-value";
import { plural } from "@/lib/utils";
import { useSettings } from "@/store/settings-store";
import { useTaskStore } from "@/store/task-store";
import type { Priority } from "@/types/task";

const ListPage = () => {
  const { listId = "" } = useParams();
  const list = useTaskStore((state) => state.lists.find((other) => other.id === listId));
  const tasks = useTaskStore((state) => state.tasks);
  const clearDone = useTaskStore((state) => state.clearDone);
  const showDone = useSettings((state) => state.showDone);

  const [search, setSearch] = useState("");
  const [priorities, setPriorities] = useState<Priority[]>([]);
  const needle = useDebouncedValue(search.trim().toLowerCase());

  const visible = useMemo(
    () =>
      tasks.filter(
        (task) =>
          task.listId === listId &&
          (showDone || task.status !== "done") &&
          (priorities.length === 0 || priorities.includes(task.priority)) &&
          (needle === "" || `${task.title} ${task.notes}`.toLowerCase().includes(needle)),
      ),
    [tasks, listId, showDone, priorities, needle],
  );

  if (!list) {
    return <EmptyState title="This list does not exist" description="It may have been removed in another tab." />;
  }

  const doneCount = visible.filter((task) => task.status === "done").length;

  return (
    <>
      <PageHeader title={list.name} description={plural(visible.length, "task")}>
        <Button variant="outline" size="sm" disabled={doneCount === 0} onClick={() => clearDone(list.id)}>
          Clear done
        </Button>
      </PageHeader>
      <div className="grid gap-6 lg:grid-cols-[minmax(0,1fr)_minmax(0,22rem)]">
        <div className="space-y-4">
          <TaskFilters
            search={search}
            onSearch={setSearch}
            priorities={priorities}
            onPriorities={setPriorities}
          />
          <QuickAdd listId={list.id} />
          <TaskList
            tasks={visible}
            emptyTitle={needle || priorities.length > 0 ? "Nothing matches" : "An empty list"}
            emptyDescription="Add the first task above, or press N."
          />
        </div>
        <Outlet />
      </div>
    </>
  );
};

export default ListPage;
