import { cn } from "@/lib/utils";

export interface Bar {
  label: string;
  value: number;
  highlighted?: boolean;
}

interface BarChartProps {
  bars: Bar[];
  caption: string;
}

const HEIGHT = 120;
const STEP = 44;

/** A bar chart in plain SVG: a handful of bars does not need a charting library. */
export function BarChart({ bars, caption }: BarChartProps) {
  const highest = Math.max(1, ...bars.map((bar) => bar.value));

  return (
    <svg
      viewBox={`0 0 ${bars.length * STEP} ${HEIGHT + 40}`}
      role="img"
      aria-label={caption}
      className="w-full"
      data-testid="bar-chart"
    >
      {bars.map((bar, index) => {
        const height = Math.max(2, (bar.value / highest) * HEIGHT);
        const x = index * STEP + 6;
        return (
          <g key={bar.label}>
            <rect
              x={x}
              y={HEIGHT + 18 - height}
              width={STEP - 12}
              height={height}
              rx={4}
              className={cn("fill-primary/40", bar.highlighted && "fill-primary")}
            />
            <text x={x + 16} y={HEIGHT + 34} textAnchor="middle" className="fill-muted-foreground text-[11px]">
              {bar.label}
            </text>
            {bar.value > 0 && (
              <text x={x + 16} y={HEIGHT + 13 - height} textAnchor="middle" className="fill-foreground text-[11px]">
                {bar.value}
              </text>
            )}
          </g>
        );
      })}
    </svg>
  );
}
