import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { createEntity, listEntities } from "@/lib/api";

export interface SharedNote {
  title: string;
}

const TYPE = "Note";
const KEY = ["entities", TYPE];

/** Nothing is fetched until `enabled`: the app has to start without a backend. */
export function useSharedNotes(enabled: boolean) {
  return useQuery({ queryKey: KEY, queryFn: () => listEntities<SharedNote>(TYPE), enabled });
}

export function useCreateSharedNote() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (note: SharedNote) => createEntity(TYPE, note),
    onSuccess: () => client.invalidateQueries({ queryKey: KEY }),
  });
}
