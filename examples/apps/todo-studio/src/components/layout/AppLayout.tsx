import { Outlet } from "react-router-dom";
import { Header } from "@/components/layout/Header";
import { Sidebar } from "@/components/layout/Sidebar";
import { useIsMobile } from "@/hooks/use-mobile";

export function AppLayout() {
  const isMobile = useIsMobile();

  return (
    <div className="flex min-h-screen w-full">
      {!isMobile && (
        <aside className="sticky top-0 h-screen w-60 shrink-0 border-r border-sidebar-border bg-sidebar">
          <Sidebar />
        </aside>
      )}
      <div className="flex min-w-0 flex-1 flex-col">
        <Header />
        <main className="container flex-1 animate-fade-up py-8">
          <Outlet />
        </main>
      </div>
    </div>
  );
}
