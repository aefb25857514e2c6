import { useEffect, useState } from "react";
import { Menu, Plus } from "lucide-react";
import { Sidebar } from "@/components/layout/Sidebar";
import { TaskForm } from "@/components/tasks/TaskForm";
import { ThemeToggle } from "@/components/ThemeToggle";
import { Button } from "@/components/ui/button";
import { Sheet, SheetContent, SheetDescription, SheetHeader, SheetTitle, SheetTrigger } from "@/components/ui/sheet";
import { Tooltip, TooltipContent, TooltipTrigger } from "@/components/ui/tooltip";

export function Header() {
  const [menuOpen, setMenuOpen] = useState(false);
  const [formOpen, setFormOpen] = useState(false);

  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      const typing = event.target instanceof Element && event.target.closest("input, textarea, [role=dialog]");
      if (event.key !== "n" || event.metaKey || event.ctrlKey || typing) return;
      event.preventDefault();
      setFormOpen(true);
    };
    window.addEventListener("keydown", onKeyDown);
    return () => window.removeEventListener("keydown", onKeyDown);
  }, []);

  return (
    <header className="sticky top-0 z-40 flex h-14 items-center gap-2 border-b bg-background/80 px-4 backdrop-blur">
      <Sheet open={menuOpen} onOpenChange={setMenuOpen}>
        <SheetTrigger asChild>
          <Button variant="ghost" size="icon" className="md:hidden" aria-label="Menu">
            <Menu />
          </Button>
        </SheetTrigger>
        <SheetContent side="left" className="p-0">
          <SheetHeader className="sr-only">
            <SheetTitle>Menu</SheetTitle>
            <SheetDescription>Pages and lists</SheetDescription>
          </SheetHeader>
          <Sidebar onNavigate={() => setMenuOpen(false)} />
        </SheetContent>
      </Sheet>
      <div className="ml-auto flex items-center gap-1">
        <Tooltip>
          <TooltipTrigger asChild>
            <Button size="sm" onClick={() => setFormOpen(true)} data-testid="new-task">
              <Plus />
              New task
            </Button>
          </TooltipTrigger>
          <TooltipContent>
            Press <kbd className="rounded border bg-muted px-1 font-mono text-xs">N</kbd>
          </TooltipContent>
        </Tooltip>
        <ThemeToggle />
      </div>
      <TaskForm open={formOpen} onOpenChange={setFormOpen} />
    </header>
  );
}
