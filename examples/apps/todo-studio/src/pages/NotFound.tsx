import { Link, useLocation } from "react-router-dom";
import { PageHeader } from "@/components/PageHeader";
import { Button } from "@/components/ui/button";

const NotFound = () => {
  const { pathname } = useLocation();

  return (
    <div className="mx-auto max-w-md py-16 text-center" data-testid="not-found">
      <p className="text-6xl font-bold text-primary">404</p>
      <PageHeader title="This page does not exist" />
      <p className="mb-6 text-muted-foreground">
        Nothing is kept at <code className="rounded bg-muted px-1.5 py-0.5 text-sm">{pathname}</code>.
      </p>
      <Button asChild>
        <Link to="/">Back to today</Link>
      </Button>
    </div>
  );
};

export default NotFound;
