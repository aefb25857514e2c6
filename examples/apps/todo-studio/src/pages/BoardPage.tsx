import { useState } from "react";
import { BoardColumn } from "@/components/board/BoardColumn";
import { PageHeader } from "@/components/PageHeader";
import { Select, SelectContent, SelectItem, SelectTrigger, SelectValue } from "@/components/ui/select";
import { useTaskStore } from "@/store/task-store";
import { STATUSES } from "@/types/task";

const ALL = "all";

const BoardPage = () => {
  const tasks = useTaskStore((state) => state.tasks);
  const lists = useTaskStore((state) => state.lists);
  const [listId, setListId] = useState(ALL);

  return (
    <>
      <PageHeader title="Board" description="Everything, by how far it is.">
        <Select value={listId} onValueChange={setListId}>
          <SelectTrigger className="w-40" aria-label="List">
            <SelectValue />
          </SelectTrigger>
          <SelectContent>
            <SelectItem value={ALL}>All lists</SelectItem>
            {lists.map((list) => (
              <SelectItem key={list.id} value={list.id}>
                {list.name}
              </SelectItem>
            ))}
          </SelectContent>
        </Select>
      </PageHeader>
      <div className="grid gap-4 md:grid-cols-3">
        {STATUSES.map((status) => (
          <BoardColumn
            key={status}
            status={status}
            tasks={tasks.filter((task) => task.status === status && (listId === ALL || task.listId === listId))}
          />
        ))}
      </div>
    </>
  );
};

export default BoardPage;
