/** `npm run openapi`: writes openapi.yaml and docs/asyncapi.yaml as a server with the default settings serves them. */
import { writeFile } from 'node:fs/promises';
import { configure } from '../config.ts';
import { createAsyncApi } from '../http/reference/asyncapi.ts';
import { createDocument } from '../http/reference/openapi.ts';
import { toYaml } from '../http/reference/routes.ts';

const root = new URL('../../', import.meta.url);
await writeFile(new URL('openapi.yaml', root), toYaml(createDocument(configure())));
await writeFile(new URL('docs/asyncapi.yaml', root), toYaml(createAsyncApi(configure())));
