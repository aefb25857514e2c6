import { ListFilter, Search } from "lucide-react";
import { Button } from "@/components/ui/button";
import { Checkbox } from "@/components/ui/checkbox";
import { Input } from "@/components/ui/input";
import { Label } from "@/components/ui/label";
import { Popover, PopoverContent, PopoverTrigger } from "@/components/ui/popover";
import { PRIORITIES, PRIORITY_LABELS, type Priority } from "@/types/task";

interface TaskFiltersProps {
  search: string;
  onSearch: (search: string) => void;
  priorities: Priority[];
  onPriorities: (priorities: Priority[]) => void;
}

export function TaskFilters({ search, onSearch, priorities, onPriorities }: TaskFiltersProps) {
  return (
    <div className="flex gap-2">
      <div className="relative flex-1">
        <Search className="pointer-events-none absolute left-3 top-3 h-4 w-4 text-muted-foreground" />
        <Input
          type="search"
          value={search}
          onChange={(event) => onSearch(event.target.value)}
          placeholder="Search titles and notes"
          className="pl-9"
        />
      </div>
      <Popover>
        <PopoverTrigger asChild>
          <Button variant="outline">
            <ListFilter />
            Priority
            {priorities.length > 0 && <span className="text-primary">{priorities.length}</span>}
          </Button>
        </PopoverTrigger>
        <PopoverContent align="end" className="w-48 space-y-3">
          {PRIORITIES.map((priority) => (
            <div key={priority} className="flex items-center gap-2">
              <Checkbox
                id={`priority-${priority}`}
                checked={priorities.includes(priority)}
                onCheckedChange={(checked) =>
                  onPriorities(
                    checked === true ? [...priorities, priority] : priorities.filter((other) => other !== priority),
                  )
                }
              />
              <Label htmlFor={`priority-${priority}`}>{PRIORITY_LABELS[priority]}</Label>
            </div>
          ))}
        </PopoverContent>
      </Popover>
    </div>
  );
}
