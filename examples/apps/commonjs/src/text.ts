// Passed on from CommonJS packages: by name, the default under a name, and all of it.
import * as htmlEntities from "entities";

export { capitalize, kebabCase } from "lodash";
export { default as pluralize } from "pluralize";
export { htmlEntities };
