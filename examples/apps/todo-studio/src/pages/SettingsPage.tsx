import { useState } from "react";
import { CloudOff, RefreshCw, Share2 } from "lucide-react";
import { useSearchParams } from "react-router-dom";
import about from "@/content/about.md?raw";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import {
  AlertDialog,
  AlertDialogAction,
  AlertDialogCancel,
  AlertDialogContent,
  AlertDialogDescription,
  AlertDialogFooter,
  AlertDialogHeader,
  AlertDialogTitle,
  AlertDialogTrigger,
} from "@/components/ui/alert-dialog";
import { Button } from "@/components/ui/button";
import { Card, CardContent, CardDescription, CardHeader, CardTitle } from "@/components/ui/card";
import { Input } from "@/components/ui/input";
import { Label } from "@/components/ui/label";
import { Skeleton } from "@/components/ui/skeleton";
import { toast } from "@/components/ui/sonner";
import { Switch } from "@/components/ui/switch";
import { Tabs, TabsContent, TabsList, TabsTrigger } from "@/components/ui/tabs";
import { useCreateSharedNote, useSharedNotes } from "@/hooks/use-entities";
import { useSettings } from "@/store/settings-store";
import { useTaskStore } from "@/store/task-store";

const SettingsPage = () => {
  const [params, setParams] = useSearchParams();

  return (
    <>
      <PageHeader title="Settings" />
      <Tabs value={params.get("tab") ?? "general"} onValueChange={(tab) => setParams({ tab }, { replace: true })}>
        <TabsList>
          <TabsTrigger value="general">General</TabsTrigger>
          <TabsTrigger value="shared">Shared</TabsTrigger>
          <TabsTrigger value="about">About</TabsTrigger>
        </TabsList>
        <TabsContent value="general">
          <GeneralTab />
        </TabsContent>
        <TabsContent value="shared">
          <SharedTab />
        </TabsContent>
        <TabsContent value="about">
          <Card>
            <CardContent className="space-y-4 pt-6 text-sm leading-relaxed" data-testid="about">
              {about
                .trim()
                .split("\n\n")
                .map((paragraph) => (
                  <p key={paragraph}>{paragraph}</p>
                ))}
              <p className="text-muted-foreground">Running in {import.meta.env.MODE} mode.</p>
            </CardContent>
          </Card>
        </TabsContent>
      </Tabs>
    </>
  );
};

function GeneralTab() {
  const { weekStartsOn, showDone, dailyGoal, set } = useSettings();
  const reset = useTaskStore((state) => state.reset);

  return (
    <Card>
      <CardContent className="space-y-6 pt-6">
        <div className="flex items-center justify-between gap-4">
          <Label htmlFor="week-start">Weeks start on Monday</Label>
          <Switch
            id="week-start"
            checked={weekStartsOn === 1}
            onCheckedChange={(checked) => set({ weekStartsOn: checked ? 1 : 0 })}
          />
        </div>
        <div className="flex items-center justify-between gap-4">
          <Label htmlFor="show-done">Show tasks that are done</Label>
          <Switch id="show-done" checked={showDone} onCheckedChange={(checked) => set({ showDone: checked })} />
        </div>
        <div className="flex items-center justify-between gap-4">
          <Label htmlFor="daily-goal">Focus rounds per day</Label>
          <Input
            id="daily-goal"
            type="number"
            min={1}
            max={16}
            className="w-20"
            value={dailyGoal}
            onChange={(event) => set({ dailyGoal: Math.min(16, Math.max(1, event.target.valueAsNumber || 1)) })}
          />
        </div>
        <AlertDialog>
          <AlertDialogTrigger asChild>
            <Button variant="destructive">Start over</Button>
          </AlertDialogTrigger>
          <AlertDialogContent>
            <AlertDialogHeader>
              <AlertDialogTitle>Replace all your tasks?</AlertDialogTitle>
              <AlertDialogDescription>
                Your lists and tasks are replaced by the ones a new visitor sees. This cannot be undone.
              </AlertDialogDescription>
            </AlertDialogHeader>
            <AlertDialogFooter>
              <AlertDialogCancel>Cancel</AlertDialogCancel>
              <AlertDialogAction
                onClick={() => {
                  reset();
                  toast.success("Everything is as on the first day");
                }}
              >
                Start over
              </AlertDialogAction>
            </AlertDialogFooter>
          </AlertDialogContent>
        </AlertDialog>
      </CardContent>
    </Card>
  );
}

function SharedTab() {
  const [wanted, setWanted] = useState(false);
  const [title, setTitle] = useState("");
  const notes = useSharedNotes(wanted);
  const create = useCreateSharedNote();

  return (
    <Card>
      <CardHeader>
        <CardTitle className="flex items-center gap-2">
          <Share2 className="h-5 w-5" />
          Shared notes
        </CardTitle>
        <CardDescription>Notes that everyone who uses this app can see. They live on the server.</CardDescription>
      </CardHeader>
      <CardContent className="space-y-4" data-testid="shared-notes">
        <Button
          variant="outline"
          disabled={notes.isFetching}
          data-testid="load-shared"
          onClick={() => (wanted ? void notes.refetch() : setWanted(true))}
        >
          <RefreshCw className={notes.isFetching ? "animate-spin" : undefined} />
          {wanted ? "Reload" : "Load shared notes"}
        </Button>
        {notes.isLoading && <Skeleton className="h-20 w-full" />}
        {notes.isError && (
          <p className="flex items-center gap-2 text-sm text-muted-foreground" data-testid="shared-error">
            <CloudOff className="h-4 w-4" />
            {notes.error.message}
          </p>
        )}
        {notes.data && (
          <>
            {notes.data.length === 0 && <EmptyState title="No notes yet" description="Write the first one below." />}
            <ul className="list-inside list-disc space-y-1 text-sm">
              {notes.data.map((note) => (
                <li key={note.id}>{note.title}</li>
              ))}
            </ul>
            <form
              className="flex gap-2"
              onSubmit={(event) => {
                event.preventDefault();
                if (!title.trim()) return;
                create.mutate(
                  { title: title.trim() },
                  {
                    onSuccess: () => setTitle(""),
                    onError: (error) => toast.error("The note was not saved", { description: error.message }),
                  },
                );
              }}
            >
              <Input value={title} onChange={(event) => setTitle(event.target.value)} placeholder="A note for all" />
              <Button type="submit" disabled={create.isPending}>
                Share
              </Button>
            </form>
          </>
        )}
      </CardContent>
    </Card>
  );
}

export default SettingsPage;
