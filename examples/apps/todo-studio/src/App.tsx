import { lazy, Suspense } from "react";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { BrowserRouter, Route, Routes } from "react-router-dom";
import { AppLayout } from "@/components/layout/AppLayout";
import { ErrorBoundary } from "@/components/ErrorBoundary";
import { Skeleton } from "@/components/ui/skeleton";
import { Toaster } from "@/components/ui/sonner";
import { TooltipProvider } from "@/components/ui/tooltip";
import { ThemeProvider } from "@/contexts/ThemeContext";
import BoardPage from "@/pages/BoardPage";
import CalendarPage from "@/pages/CalendarPage";
import Index from "@/pages/Index";
import ListPage from "@/pages/ListPage";
import NotFound from "@/pages/NotFound";
import SettingsPage from "@/pages/SettingsPage";
import TaskPage from "@/pages/TaskPage";

const StatsPage = lazy(() => import("@/pages/StatsPage"));

const queryClient = new QueryClient({
  defaultOptions: {
    queries: { retry: false, refetchOnWindowFocus: false, staleTime: 30_000 },
  },
});

const App = () => (
  <QueryClientProvider client={queryClient}>
    <ThemeProvider>
      <TooltipProvider delayDuration={200}>
        <Toaster />
        <BrowserRouter
          basename={import.meta.env.BASE_URL}
          future={{ v7_startTransition: true, v7_relativeSplatPath: true }}
        >
          <ErrorBoundary>
            <Routes>
              <Route element={<AppLayout />}>
                <Route index element={<Index />} />
                <Route path="lists/:listId" element={<ListPage />}>
                  <Route path="tasks/:taskId" element={<TaskPage />} />
                </Route>
                <Route path="board" element={<BoardPage />} />
                <Route path="calendar" element={<CalendarPage />} />
                <Route
                  path="stats"
                  element={
                    <Suspense fallback={<Skeleton className="h-72 w-full" />}>
                      <StatsPage />
                    </Suspense>
                  }
                />
                <Route path="settings" element={<SettingsPage />} />
                {/* ADD ALL CUSTOM ROUTES ABOVE THE CATCH-ALL "*" ROUTE */}
                <Route path="*" element={<NotFound />} />
              </Route>
            </Routes>
          </ErrorBoundary>
        </BrowserRouter>
      </TooltipProvider>
    </ThemeProvider>
  </QueryClientProvider>
);

export default App;
