import { useState } from "react";
import { RotateCcw, Timer } from "lucide-react";
import { Button } from "@/components/ui/button";
import { Card, CardContent, CardDescription, CardHeader, CardTitle } from "@/components/ui/card";

interface CounterProps {
  goal?: number;
}

/** Counts rounds of focused work; the count lives only as long as the page. */
export function Counter({ goal = 4 }: CounterProps) {
  const [count, setCount] = useState(0);

  return (
    <Card>
      <CardHeader className="pb-4">
        <CardTitle className="flex items-center gap-2">
          <Timer className="h-5 w-5 text-primary" />
          Focus rounds
        </CardTitle>
        <CardDescription>
          {count >= goal ? "Goal reached. Take a walk." : `${goal - count} to go until today's goal.`}
        </CardDescription>
      </CardHeader>
      <CardContent className="flex items-center gap-2">
        <Button data-testid="counter" onClick={() => setCount((value) => value + 1)}>
          Rounds: <span data-testid="counter-value">{count}</span>
        </Button>
        <Button
          variant="ghost"
          size="icon"
          aria-label="Reset the rounds"
          data-testid="counter-reset"
          disabled={count === 0}
          onClick={() => setCount(0)}
        >
          <RotateCcw />
        </Button>
      </CardContent>
    </Card>
  );
}
