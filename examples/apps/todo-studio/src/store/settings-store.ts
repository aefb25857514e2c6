import { create } from "zustand";
import { persist } from "zustand/middleware";

interface SettingsState {
  weekStartsOn: 0 | 1;
  showDone: boolean;
  dailyGoal: number;
  set: (change: Partial<Pick<SettingsState, "weekStartsOn" | "showDone" | "dailyGoal">>) => void;
}

export const useSettings = create<SettingsState>()(
  persist(
    (set) => ({
      weekStartsOn: 1,
      showDone: true,
      dailyGoal: 4,
      set: (change) => set(change),
    }),
    { name: "todo-studio-settings" },
  ),
);
