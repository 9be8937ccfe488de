// Answers of Billhook against the schemas that InsForge's clients are built on.
// Input: [{schema, body}] as JSON on standard input. Output: one line per violation.
import * as schemas from '@insforge/shared-schemas';
import { readFileSync } from 'node:fs';

for (const { schema, body } of JSON.parse(readFileSync(0, 'utf8'))) {
  const found = schemas[schema].safeParse(body);
  if (!found.success) {
    for (const { path, message } of found.error.issues) {
      console.log(`${schema}: ${path.join('.')}: ${message}`);
    }
  }
}
